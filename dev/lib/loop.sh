# Sourced by dev/loop: the parts of the loop, each quick when it runs already.
# shellcheck shell=bash

LOOP=${TROVE_LOOP_DIR:-/var/tmp/trove-loop}
CONTAINER=${TROVE_LOOP_CONTAINER:-trove-loop}
MANAGER=${TROVE_LOOP_MANAGER:-mariadb}
# Set on every container that an agent has created.
LABEL=org.openstack.trove.guestagent.command

# running NAME: whether the process that `begin` started lives. Its start time tells it from a later one of the same id.
running() {
    local pid since
    read -r pid since 2>/dev/null <"$LOOP/$1.pid" && [ "$(started_at "$pid")" = "$since" ]
}
started_at() { sed -n 's/.*) //p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# begin NAME COMMAND...: runs it in the background, in a session of its own, with its output in NAME.log.
begin() {
    local name=$1
    shift
    setsid "$@" </dev/null >>"$LOOP/$name.log" 2>&1 &
    printf '%s %s\n' "$!" "$(started_at "$!")" >"$LOOP/$name.pid"
    disown
}

# end NAME SECONDS: SIGTERM, and waits.
end() {
    local name=$1 seconds=$2 pid
    running "$name" || { rm -f "$LOOP/$name.pid"; return 0; }
    read -r pid _ <"$LOOP/$name.pid"
    kill -TERM "$pid" 2>/dev/null || true
    wait_until "$seconds" "$name to end; it is process $pid" not running "$name"
    rm -f "$LOOP/$name.pid"
    say "$name ended"
}
not() { ! "$@"; }

# wait_until SECONDS WHAT COMMAND...
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || { say "waited in vain for $what" >&2; return 1; }
        sleep 0.1
    done
}
# alive_and NAME COMMAND...: the condition, or the end of the log when NAME has ended meanwhile.
alive_and() {
    local name=$1
    shift
    running "$name" || { tail -n 20 "$LOOP/$name.log" >&2; die "$name ended; its log is $LOOP/$name.log"; }
    "$@" >/dev/null 2>&1
}

# A broker of its own, with a password of its own; its address is in broker.url for as long as it runs.
start_broker() {
    if running broker && [ -s "$LOOP/broker.url" ]; then say "runs already"; return; fi
    install_packages rabbitmq-server python3
    rm -f "$LOOP/broker.url"
    : >"$LOOP/broker.log"
    PYTHONPATH=$REPOSITORY/dev begin broker /usr/bin/python3 -m bench.with_services broker -- "$REPOSITORY/dev/lib/loop_broker" "$LOOP/broker.url"
    wait_until 150 "the broker" alive_and broker test -s "$LOOP/broker.url"
}

# The engine that `docker` finds, unless `up` has started one.
use_engine() {
    if running engine; then export DOCKER_HOST=unix://$LOOP/docker.sock; fi
}
start_engine() {
    install_packages docker.io
    use_engine
    if docker version >/dev/null 2>&1; then say "docker $(docker version --format '{{.Server.Version}}') runs already"; return; fi
    [ -z "${DOCKER_HOST:-}" ] || die "no engine answers at DOCKER_HOST=$DOCKER_HOST"
    : >"$LOOP/engine.log"
    # Nobody's firewall or bridges are touched: the container uses the machine's network.
    begin engine dockerd --data-root "$LOOP/images" --exec-root "$LOOP/engine" --pidfile "$LOOP/dockerd.pid" \
        --host "unix://$LOOP/docker.sock" --bridge=none --iptables=false --ip6tables=false --log-level=warn
    use_engine
    wait_until 60 "the engine" alive_and engine docker version
}

# Sets IMAGE, made of the base root unless it is there.
find_image() {
    IMAGE=${TROVE_LOOP_IMAGE:-}
    if [ -n "$IMAGE" ]; then say "$IMAGE"; return; fi
    install_packages debootstrap debian-archive-keyring
    local root
    root=$(PYTHONPATH=$REPOSITORY/dev /usr/bin/python3 -m bench.roots ensure mariadb-10.11 | tail -n 1)
    IMAGE=trove-dev-mariadb:${root##*-}
    if docker image inspect "$IMAGE" >/dev/null 2>&1; then say "$IMAGE is there"; return; fi
    tar -C "$root" -c . | docker import - "$IMAGE" >/dev/null
    say "made $IMAGE of $root"
}

write_configuration() {
    mkdir -p -m 700 "$LOOP/conf.d" "$LOOP/state"
    mkdir -p -m 755 "$LOOP/mysql" "$LOOP/mysql/conf" "$LOOP/mysql/run" "$LOOP/mysql/volume"
    (
        umask 077
        cat >"$LOOP/conf.d/guest_info.conf" <<-CONF
		[DEFAULT]
		guest_id = loop
		datastore_manager = $MANAGER
		CONF
        cat >"$LOOP/conf.d/trove-guestagent.conf" <<-CONF
		[DEFAULT]
		transport_url = $(cat "$LOOP/broker.url")
		control_exchange = trove
		state_dir = $LOOP/state
		service_control = docker
		report_interval = 10
		debug = ${TROVE_LOOP_DEBUG:-false}
		root_grant = ALL
		[$MANAGER]
		docker_image = $IMAGE
		service_name = $CONTAINER
		config_dir = $LOOP/mysql/conf
		socket = $LOOP/mysql/run/mysqld.sock
		mount_point = $LOOP/mysql/volume
		CONF
    )
}

# Whether there is a container, and an agent has made it.
is_ours() {
    local made
    made=$(docker container inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$CONTAINER" 2>/dev/null) && [ -n "$made" ]
}
# One that `down` has stopped. What stop_db has stopped for good has no restart policy.
start_container() {
    is_ours || return 0
    [ "$(docker container inspect --format '{{.HostConfig.RestartPolicy.Name}}' "$CONTAINER")" = no ] || docker start "$CONTAINER" >/dev/null
}

start_agent() {
    end agent 90
    : >"$LOOP/agent.log"
    begin agent "$REPOSITORY/target/debug/trove-guestagent" --config-dir "$LOOP/conf.d"
    local ctl=("$REPOSITORY/target/debug/trove-guestctl" --config-dir "$LOOP/conf.d")
    wait_until 30 "the agent to answer" alive_and agent "${ctl[@]}" call --timeout 10 loop rpc_ping
    say "answers; its log is $LOOP/agent.log"
}
