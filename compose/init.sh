#!/bin/sh
# Runs once before the other services: folders, the UI's password, the database's tables.
set -eu
mkdir -p /var/lib/monai/store /var/lib/monai/logs /var/lib/monai/archive
umask 077
printf '{"admin": "%s"}\n' "$MONAI_PASSWORD" >/var/lib/monai/passwords.json
exec airflow db migrate
