#!/bin/sh
# Starts a worker (the LocalExecutor's is the scheduler) and says first whether it can shut MAPs in.
set -eu
if bwrap --unshare-all --ro-bind / / true 2>/dev/null; then
  echo 'worker: MAPs run in bubblewrap: without network, and with no files but their own'
else
  echo 'worker: WARNING: bubblewrap does not work in this container. MAPs run as plain processes that can read all that' \
    'this worker can and use its network. Is compose/seccomp.json in force, and may users of this host make user' \
    'namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)?' >&2
fi
exec "$@"
