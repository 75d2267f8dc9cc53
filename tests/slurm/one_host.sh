#!/usr/bin/env bash
# A real SLURM on this host, for tests: one_host.sh start DIR, one_host.sh stop DIR. It needs root, and
# apt-get install slurm-wlm munge slurmdbd mariadb-server. Two nodes, n1 and n2, share the cores; partition `main` is the
# default, `urgent` preempts it; jobs need an account, of which there is `lab`.
set -euo pipefail

start() {
    mkdir -p "$dir"/{state,mysql,spool.n1,spool.n2}
    chmod 755 "$dir"
    grep -qw n1 /etc/hosts || echo '127.0.0.1 n1 n2' >> /etc/hosts  # torch.distributed looks node names up
    write_configs
    if ! munge -n 2> /dev/null | unmunge > /dev/null 2>&1; then
        mkdir -p /run/munge && chown munge: /run/munge
        runuser -u munge -- munged
    fi
    start_database
    slurmdbd
    patiently sacctmgr -n show cluster
    # Before the controller, which ends if the database does not know its cluster.
    sacctmgr -i add cluster local > /dev/null
    sacctmgr -i add account lab > /dev/null
    sacctmgr -i add user root account=lab > /dev/null
    slurmctld
    patiently scontrol ping
    for node in n1 n2; do slurmd -N $node; done
    patiently both_are_idle
}

stop() {
    squeue -h -o %A | xargs --no-run-if-empty scancel
    patiently is_empty
    for pid_file in slurmd.n2 slurmd.n1 slurmctld slurmdbd mysql/mariadb; do
        pid=$(cat "$dir/$pid_file.pid" 2> /dev/null) || continue
        kill "$pid" 2> /dev/null || continue
        for _ in {1..100}; do kill -0 "$pid" 2> /dev/null || continue 2; sleep 0.1; done
        kill -9 "$pid"
    done
}

patiently() {
    for _ in {1..200}; do "$@" > /dev/null 2>&1 && return; sleep 0.2; done
    echo "one_host.sh: '$*' fails after 40 s; the logs are in $dir" >&2
    exit 1
}

is_empty() { [ -z "$(squeue -h)" ]; }

both_are_idle() { [ "$(sinfo -h -N -p main -o %T | grep -c idle)" = 2 ]; }

write_configs() {
    cores=$(($(nproc) / 2))
    memory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 * 9 / 20))
    cat > "$dir/slurm.conf" <<END
ClusterName=local
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=10
MessageTimeout=5
ReturnToService=1
SchedulerParameters=bf_interval=1,sched_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageEnforce=associations
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] NodeHostname=localhost Port=[17001-17002] CPUs=$((cores > 0 ? cores : 1)) RealMemory=$memory
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
END
    cat > "$dir/slurmdbd.conf" <<END
AuthType=auth/munge
DbdHost=localhost
SlurmUser=root
LogFile=$dir/slurmdbd.log
PidFile=$dir/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3307
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
END
    chmod 600 "$dir/slurmdbd.conf"
}

start_database() {
    data=$dir/mysql
    chown mysql: "$data"
    mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal > /dev/null 2>&1
    setsid mariadbd --user=mysql --datadir="$data" --socket="$data/socket" --pid-file="$data/mariadb.pid" \
        --bind-address=127.0.0.1 --port=3307 --innodb-lock-wait-timeout=900 < /dev/null > "$dir/mariadb.log" 2>&1 &
    patiently mariadb --socket="$data/socket" --user=root --execute='select 1'
    mariadb --socket="$data/socket" --user=root --execute="
        create database slurm_acct_db;
        create user slurm@'127.0.0.1' identified by 'slurm', slurm@localhost identified by 'slurm';
        grant all on slurm_acct_db.* to slurm@'127.0.0.1', slurm@localhost;"
}

dir=$(realpath -m "${2:?usage: one_host.sh start|stop DIR}")
export SLURM_CONF=$dir/slurm.conf
"$1"
