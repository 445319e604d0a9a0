#!/bin/sh
# Makes the file of secrets and settings for docker-compose.yaml, for nobody else to read:
#
#   sh compose/env.sh [FILE]    default: .env beside docker-compose.yaml
#
# A file that is there keeps every line: only what it lacks is added (after an update, say). To have other secrets, move it
# away first; the database's password and the Fernet key belong to the data, so begin with new volumes then.
set -eu
umask 077
file=${1:-$(dirname "$0")/../.env}
was_there=
[ ! -s "$file" ] || was_there=1
random() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
added=
add() {
  grep -q "^$1=" "$file" && return
  printf '%s=%s\n' "$1" "$2" >>"$file"
  added="$added $1"
}

touch "$file"
chmod 600 "$file"
if [ -z "$was_there" ]; then
  cat >>"$file" <<'SETTINGS'
# Settings of docker-compose.yaml. Take the # away and run `docker compose up -d` again.
#
# Airflow's port on this host. Where people reach it under another address, a proxy's say, change [api] base_url in
# docker-compose.yaml too: links in mails and notifications, and log-ins, go there.
#MONAI_UI_PORT=8080
# The DICOM receiver: 0.0.0.0 lets others than this host send.
#MONAI_DICOM_ADDRESS=127.0.0.1
#MONAI_DICOM_PORT=11112
# The folder that holds MAPs, one folder each.
#MONAI_MAPS=./examples/maps
# Tasks at a time, and the memory of the container that runs them, MAPs among them.
#MONAI_PARALLELISM=16
#MONAI_WORKER_MEMORY=8g
# Hosts to which notifications may be sent, separated by commas: names (with *), addresses, networks. Empty: those of the
# next line; where that is empty too, no notification handler can be registered. It keeps whoever may register one from
# having this server call any host of your network.
#MONAI_NOTIFICATION_HOSTS=*.hospital.example, 10.1.0.0/16
# Hosts that tasks of type http and http_async may call, written alike. Empty: all but link-local addresses, which is where
# clouds keep their credentials.
#MONAI_HTTP_ALLOWED_HOSTS=*.hospital.example

# Secrets
SETTINGS
fi
add MONAI_PASSWORD "$(random 9)"         # of the user admin
add MONAI_GATEWAY_PASSWORD "$(random 16)" # of the user gateway
add MONAI_DATABASE_PASSWORD "$(random 16)"
add MONAI_FERNET_KEY "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
add MONAI_JWT_SECRET "$(random 48)"
add MONAI_API_SECRET "$(random 48)"
if [ -z "$was_there" ]; then
  echo "made $file (only you can read it; keep it: the database needs the same secrets again)" >&2
elif [ -n "$added" ]; then
  echo "$file is kept; added:$added" >&2
else
  echo "$file is there already and lacks nothing: it is left as it is. For other secrets move it away first." >&2
  exit 1
fi
