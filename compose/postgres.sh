#!/bin/sh
# The database service: makes the cluster in $PGDATA the first time, then serves the network of the compose project.
set -eu
bin=$(python -c 'from airflow_monai.local.postgres import programs; print(programs())')
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  passwords=$(mktemp)
  printf '%s' "$POSTGRES_PASSWORD" >"$passwords"
  "$bin/initdb" --username=airflow --pwfile="$passwords" --auth=scram-sha-256 --encoding=UTF8 --locale=C -D "$PGDATA"
  rm -f "$passwords"
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  # not on the network until the database is there
  PGPASSWORD=$POSTGRES_PASSWORD
  export PGPASSWORD
  "$bin/pg_ctl" -D "$PGDATA" -w -o "-c listen_addresses='' -c unix_socket_directories=/tmp" start
  "$bin/createdb" -h /tmp -U airflow airflow
  "$bin/pg_ctl" -D "$PGDATA" -w -m fast stop
fi
exec "$bin/postgres" -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp -c max_connections=200
