#!/usr/bin/env bash
# Runs a command with DATABASE_URL set to a private PostgreSQL that lives as long as it does.
# The server listens on a socket in a temporary folder only. It refuses to run as root, so root
# hands it to the user postgres, or nobody.
set -euo pipefail

bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -1) || {
    echo "PostgreSQL's server is missing; run: apt-get install -y postgresql" >&2
    exit 1
}
home=$(mktemp -d "${TMPDIR:-/tmp}/sop-postgres.XXXXXX")
as=()
if [ "$(id -u)" = 0 ]; then
    user=$(id -un postgres 2>/dev/null || echo nobody)
    as=(setpriv --reuid "$user" --regid "$(id -gn "$user")" --clear-groups)
    chown "$user" "$home"
fi
stop() {
    "${as[@]}" "$bin/pg_ctl" -D "$home/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap stop EXIT

cd "$home"
"${as[@]}" "$bin/initdb" -D "$home/data" -U sop --auth trust --encoding UTF8 --locale C \
    --no-sync >"$home/initdb.log" 2>&1 || { cat "$home/initdb.log" >&2; exit 1; }
"${as[@]}" "$bin/pg_ctl" -D "$home/data" -l "$home/data/server.log" -w start \
    -o "-c listen_addresses='' -c unix_socket_directories='$home' -c fsync=off \
        -c synchronous_commit=off -c full_page_writes=off" >/dev/null ||
    { cat "$home/data/server.log" >&2; exit 1; }
cd "$OLDPWD"
# A folder as host means its socket; the slashes are escaped inside a URL.
DATABASE_URL="postgresql://sop@${home//\//%2F}/postgres" "$@"
