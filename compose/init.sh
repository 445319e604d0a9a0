#!/bin/sh
# Runs once before the other services: folders, the passwords of Airflow's users, the database's tables.
set -eu
mkdir -p /var/lib/monai/store /var/lib/monai/logs /var/lib/monai/archive
umask 077
printf '{"admin": "%s", "gateway": "%s"}\n' "$MONAI_PASSWORD" "$MONAI_GATEWAY_PASSWORD" >/var/lib/monai/passwords.json
exec airflow db migrate
