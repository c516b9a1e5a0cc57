# One image for web, worker, learner and beat; compose.yaml says which runs what. Not tested here.
FROM python:3.11-slim-bookworm
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 OMP_NUM_THREADS=1
WORKDIR /app
COPY requirements.txt .
# torch first and by itself; pass the index of a CPU build with --build-arg when you have one.
ARG PIP_EXTRA_INDEX_URL=
RUN pip install "$(grep -oE '^torch==[^ ]+' requirements.txt)" && pip install -r requirements.txt
COPY . .
RUN useradd --system --home /app sop && mkdir -p /var/lib/sop && chown sop /var/lib/sop \
    && SOP_VAR=/tmp/build SOP_PRODUCTION=1 STATIC_ROOT=/app/staticfiles \
       python manage.py collectstatic --noinput && rm -rf /tmp/build
ENV SOP_VAR=/var/lib/sop STATIC_ROOT=/app/staticfiles
USER sop
EXPOSE 8000
CMD ["daphne", "-b", "0.0.0.0", "-p", "8000", "--websocket_timeout", "-1", "sop_web.asgi:application"]
