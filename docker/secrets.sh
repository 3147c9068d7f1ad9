#!/bin/sh
# Make the secrets of compose.yaml, once: `sh docker/secrets.sh [FOLDER]`.
#
# The folder is closed to others (0700). The files in it are readable (0444), because a
# container sees only the one file it was given and reads it as a user of its own.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
if [ -e "$folder/secret_key" ]; then
    echo "$folder has secrets already; delete it to make new ones (workers must then join again)." >&2
    exit 1
fi
umask 077
mkdir -p "$folder"
chmod 0700 "$folder"

chance() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
write() { printf '%s\n' "$2" > "$folder/$1" && chmod 0444 "$folder/$1"; }

postgres="$(chance)"
valkey="$(chance)"
write postgres_password "$postgres"
write database_url "postgresql+psycopg://farm:$postgres@postgres:5432/farm"
write valkey_password "$valkey"
write valkey.conf "requirepass $valkey"
write broker_url "redis://:$valkey@valkey:6379/0"
write secret_key "$(chance)"
write join_token "$(chance)"
write metrics_token "$(chance)"
echo "Wrote 8 secrets to $folder. Keep it out of version control and backups that others read."
