"""All settings, from the environment only. Every variable is in `.env.example`.

Defaults start on one machine, bound to loopback, with SQLite, a local object store and Redis.
`SOP_PRODUCTION=1` makes `manage.py check` refuse what is unsafe beyond that (`checks.py`).
"""

import os
import secrets
import time
from pathlib import Path

from celery.schedules import schedule
from kombu import Queue

from sop_web import env

BASE_DIR = Path(__file__).resolve().parent.parent
# Everything this machine writes: database, objects, keys, logs of processes.
SOP_VAR = Path(env.text("SOP_VAR", str(BASE_DIR / "var"))).resolve()
SOP_VAR.mkdir(parents=True, exist_ok=True)


def _kept_secret(path: Path) -> str:
    """Return the key in `path`, made on first use; several processes may start at once."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        # The other process writes its key in one go, a moment after it created the file.
        for _ in range(100):
            if key := path.read_text():
                return key
            time.sleep(0.01)
        raise
    with os.fdopen(descriptor, "w") as file:
        file.write(key := secrets.token_urlsafe(50))
    return key


# ---- what kind of installation this is -------------------------------------------------------
PRODUCTION = env.flag("SOP_PRODUCTION", False)
DEBUG = env.flag("DEBUG", False)
SECRET_KEY = env.secret("SECRET_KEY") or _kept_secret(SOP_VAR / "secret_key")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")
SITE_NAME = env.text("SITE_NAME", "SOP")

# ---- what it is made of ----------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "fleet",
    "learning",
    "sop_web",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "sop_web.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "sop_web.urls"
ASGI_APPLICATION = "sop_web.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "sop_web.words.page_words",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            # Every template has words: {% translate %}, and |said for those that come in English.
            "builtins": ["django.templatetags.i18n", "fleet.templatetags.words"],
        },
    },
]

# ---- truth: rows -----------------------------------------------------------------------------
DATABASES = {"default": env.database("DATABASE_URL", SOP_VAR / "sop.sqlite3")}
# Seconds a connection is kept; the gateway's threads reuse theirs between heartbeats.
DATABASES["default"]["CONN_MAX_AGE"] = 60
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---- truth: objects --------------------------------------------------------------------------
# A folder by file:// URL or path, or s3://, gs://, az://.
SOP_STORE_URL = env.text("SOP_STORE_URL", (SOP_VAR / "store").as_uri())
# Where `make experiment` keeps its outputs, whatever SOP_VAR is; the pages show them.
SOP_EXPERIMENTS = Path(env.text("SOP_EXPERIMENTS", str(BASE_DIR / "var" / "experiments")))

# ---- state and commands: Redis ---------------------------------------------------------------
# Empty: one process only; nothing reaches workers or other web processes.
REDIS_URL = env.secret("REDIS_URL")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}

# ---- Celery ----------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A Celery task unacknowledged for this long is delivered again; rounds last minutes, not hours.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600}
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_TASK_QUEUES = [Queue("default"), Queue("learner")]
# torch lives in one worker only.
CELERY_TASK_ROUTES = {
    f"learning.tasks.{name}": {"queue": "learner"}
    for name in ("run_round", "fit_value", "derive_thresholds")
}
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(SOP_VAR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "expired-leases": {
        "task": "fleet.tasks.sweep_leases",
        "schedule": schedule(run_every=5.0),
        "options": {"expires": 5.0},
    },
    # A round that nobody enqueued, a lease that expired, a version that was not assigned.
    "learning": {
        "task": "learning.tasks.sweep",
        "schedule": schedule(run_every=5.0),
        "options": {"expires": 5.0},
    },
    "orphan-objects": {
        "task": "learning.tasks.sweep_objects",
        "schedule": schedule(run_every=3600.0),
        "options": {"expires": 3600.0},
    },
}

# ---- learner ---------------------------------------------------------------------------------
# Seconds of one learner round; it ends with a checkpoint.
SOP_ROUND_S = env.integer("SOP_ROUND_S", 20)
# Threads torch may use in the learner worker. One leaves the other cores to the robots.
SOP_LEARNER_THREADS = env.integer("SOP_LEARNER_THREADS", 1)

# Of a hundred judged episodes, how many are judged again by somebody else: agreement is measured.
SOP_DOUBLE_LABEL_PERCENT = env.integer("SOP_DOUBLE_LABEL_PERCENT", 10)

# ---- people ----------------------------------------------------------------------------------
LOGIN_URL = "fleet:login"
LOGIN_REDIRECT_URL = "fleet:fleet"
LOGOUT_REDIRECT_URL = "fleet:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# htmx reads the token from the page, never from the cookie.
CSRF_COOKIE_HTTPONLY = True
HTTPS = env.flag("SOP_HTTPS", PRODUCTION)
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = env.integer("SOP_HSTS_SECONDS", 3600 if HTTPS else 0)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
# Subdomains and preload lists (W005, W021) are for whoever owns the domain to decide, not for us.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "default-src": "'self'",
    "img-src": "'self' data: blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}

# ---- uploads ---------------------------------------------------------------------------------
# One episode part (fleet.protocol.episode.MAX_PART_BYTES) and its headers.
DATA_UPLOAD_MAX_MEMORY_SIZE = 65 * 1024 * 1024

# ---- static files ----------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = Path(env.text("STATIC_ROOT", str(SOP_VAR / "static")))
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
# In production `collectstatic` hashes the names; elsewhere files are served where they lie.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION

# ---- words and times -------------------------------------------------------------------------
# A person's choice (a cookie) comes before what the browser asks for; English is what is left.
LANGUAGE_CODE = "en"
# Each in its own words, as whoever looks for it reads it. docs/translating.md says how to add one.
LANGUAGES = [("en", "English"), ("zh-hans", "中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_SECURE = HTTPS
LANGUAGE_COOKIE_HTTPONLY = True
USE_I18N = True
# Figures are read by scripts and style sheets too: no separators of thousands.
USE_THOUSAND_SEPARATOR = False
TIME_ZONE = env.text("TIME_ZONE", "UTC")
USE_TZ = True

# ---- logs ------------------------------------------------------------------------------------
LOG_LEVEL = env.text("LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "sop_web.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # One line a request is noise beside twenty heartbeats a second.
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "django.server": {"level": "WARNING"},
        # The same for one line each time a sweep is sent, received and done.
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}
