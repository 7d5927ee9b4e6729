# Functions for the scripts that run in the machine. Sourced by bash.
export PATH=/product/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C NO_COLOR=1 DROVER_CACHE_DIR=/run/drover-cache
mkdir -p /run/drover-cache

# mount_data COUNT: the data disks at /data1 and on
mount_data() {
  local n letters=(- c d e f g)
  for ((n = 1; n <= $1; n++)); do
    mkdir -p "/data$n"
    mountpoint -q "/data$n" || mount "/dev/vd${letters[n]}" "/data$n"
  done
}

# within SECONDS COMMAND...: repeats the command until it succeeds
within() {
  local limit=$((SECONDS + $1))
  shift
  until "$@"; do
    if ((SECONDS >= limit)); then
      echo "not in time: $*"
      return 1
    fi
    sleep 0.3
  done
}

# fails COMMAND...: succeeds when the command fails; `!` alone would not end a script
fails() { ! "$@"; }

is_over() { ! kill -0 "$(cat "/run/$1.pid")" 2>/dev/null; }
is_ready() { grep -q '^ready after' "/run/$1.out" || is_over "$1"; }

# serve NAME ARGUMENTS...: starts `drover volume serve`, waits until the disk is there, prints its endpoint
serve() {
  local name=$1
  shift
  setsid drover volume serve "$name" --dir /data1 /data2 /data3 "$@" >"/run/$name.out" 2>&1 </dev/null &
  echo $! >"/run/$name.pid"
  within 600 is_ready "$name"
  grep -q '^ready after' "/run/$name.out" || { cat "/run/$name.out"; return 1; }
  sed -n 's/^ready after.*: //p' "/run/$name.out"
}

# finish NAME: ends it in order
finish() {
  kill -INT "$(cat "/run/$1.pid")"
  within 90 is_over "$1" || { cat "/run/$1.out"; return 1; }
}

# processes NAME: process ids of the programs of a volume
engine_of() { pgrep -f "app/engine.js .*controller.* $1( |\$)"; }
replica_of() { pgrep -f "app/replica.js .*/$1( |\$)"; }

# initiator: the kernel's iSCSI initiator with its daemon
initiator() {
  modprobe iscsi_tcp
  pgrep -x iscsid >/dev/null && return
  mkdir -p /etc/iscsi /run/lock/iscsi
  echo "InitiatorName=iqn.2004-10.org.debian:drover-vm" >/etc/iscsi/initiatorname.iscsi
  # How long commands wait for an engine that is started again: here that can take minutes.
  sed -i 's/^node.session.timeo.replacement_timeout.*/node.session.timeo.replacement_timeout = 900/' /etc/iscsi/iscsid.conf
  iscsid
}

# tgt_store: gives tgtd the backing store longhorn; it must not run yet
tgt_store() { install -D /product/guest/tgt-longhorn.so /usr/lib/tgt/backing-store/longhorn.so; }

# tgt_over: ends tgtd, which volumes start and leave running
tgt_over() {
  tgtadm --op delete --mode system
  within 30 eval '! pgrep -x tgtd'
}

# kernel_errors: what the kernel says of broken disks and file systems since the mark
mark() { dmesg | wc -l >/run/dmesg.mark; }
kernel_errors() {
  dmesg | tail -n +"$(($(cat /run/dmesg.mark) + 1))" |
    grep -E 'I/O error|EXT4-fs (error|warning)|XFS .*(error|corrupt|shut ?down)|Buffer I/O|Remounting filesystem read-only'
}

# left_behind: sessions, nodes, device files that should be gone; fails if there are any
left_behind() {
  local found=0
  if ls /sys/class/iscsi_session/session* >/dev/null 2>&1; then echo "an iSCSI session is left"; found=1; fi
  if iscsiadm -m node >/dev/null 2>&1; then echo "an iSCSI node record is left"; found=1; fi
  if ls /dev/longhorn/* >/dev/null 2>&1; then echo "left in /dev/longhorn: $(ls /dev/longhorn)"; found=1; fi
  if losetup -a | grep -q .; then echo "a loop device is left: $(losetup -a)"; found=1; fi
  if tgtadm --lld iscsi --op show --mode target 2>/dev/null | grep '^Target'; then echo "a target of tgtd is left"; found=1; fi
  if ls -d /sys/block/nbd*/pid >/dev/null 2>&1; then echo "an NBD device is left"; found=1; fi
  if pgrep -f /product/lib/app/ >/dev/null; then echo "a process is left: $(pgrep -af /product/lib/app/)"; found=1; fi
  return $found
}

# explain: what may tell why something failed
explain() {
  local file
  for file in /run/*.out /data1/*.log; do
    [ -s "$file" ] && { echo "--- $file"; tail -n 40 "$file"; }
  done
  echo "--- processes"
  ps -eo pid,stat,args | grep -v '\[' | tail -n 30
  echo "--- kernel"
  dmesg | tail -n 40
}

# attach NAME KIND ARGUMENTS...: serves a volume by KIND-blockdev and sets $disk to the device under its name
attach() {
  local name=$1 kind=$2
  shift 2
  case $kind in
    iscsi) initiator ;;
    nbd) modprobe nbd ;;
    loop) modprobe loop && modprobe fuse ;;
    tgt) initiator && tgt_store && export DROVER_DEVICE_CARRIER=tgt ;;
  esac
  serve "$name" --frontend "$kind-blockdev" "$@"
  disk=/dev/longhorn/$name
  [ -b "$disk" ] || { echo "$disk is no block device"; return 1; }
}

# records_port: the port that goes to the host
records_port() {
  local name
  for name in /sys/class/virtio-ports/*/name; do
    [ "$(cat "$name")" = records ] && echo "/dev/$(basename "$(dirname "$name")")"
  done
}

# same_copies NAME: compares the copies of a stopped volume without snapshots
same_copies() {
  cmp /data1/$1-r-1/volume-head-000.img /data2/$1-r-2/volume-head-000.img &&
    cmp /data1/$1-r-1/volume-head-000.img /data3/$1-r-3/volume-head-000.img
}

# equal_again NAME: the log of this start says that the copies are equal, or that the last stop was in order
equal_again() {
  tac "/data1/$1.log" | sed '/volume started/q' | grep -q 'copies are equal again\|volume started.*unclean=false'
}

# no_programs: none of the product's processes runs
no_programs() { ! pgrep -f /product/lib/app/ >/dev/null; }

# remove NAME: removes a volume that was stopped
remove() {
  drover volume rm "$1" --yes --dir /data1 /data2 /data3 && return
  ls -li /data*/
  cat /proc/locks
  return 1
}

# Copies on other nodes: network namespaces node1 to node3, each with a replica on /data1 to /data3; the engine is in
# the machine's own network.

# nodes_up NAME SIZE: networks and copies, and an engine that shows them by iSCSI; does nothing if that is there
nodes_up() {
  local n
  [ -e /run/nodes.up ] && return
  modprobe -a bridge veth
  ip link add nodes type bridge
  ip addr add 10.9.0.1/24 dev nodes
  ip link set nodes up
  for n in 1 2 3; do
    ip netns add node$n
    ip link add to$n type veth peer name eth0 netns node$n
    ip link set to$n master nodes up
    ip -n node$n addr add 10.9.0.1$n/24 dev eth0
    ip -n node$n link set lo up
    ip -n node$n link set eth0 up
    start_copy $n "$1" "$2"
  done
  initiator
  start_engine a "$1" "$2" 9501
  for n in 1 2 3; do within 300 grep -q 'replica ready' /run/copy$n.out; done
  within 300 grep -q 'engine ready' /run/engine-a.out
  mkdir -p /mnt
  mkfs.ext4 -q -F /dev/longhorn/$1
  mount /dev/longhorn/$1 /mnt
  echo a >/run/engine.now
  touch /run/nodes.up
}

# start_copy NODE NAME SIZE
start_copy() {
  setsid ip netns exec node$1 replica /data$1/$2-r-$1 --size $3 --disableRevCounter --listen 10.9.0.1$1:10000 \
    --volume-name $2 >>/run/copy$1.out 2>&1 </dev/null &
  echo $! >/run/copy$1.pid
}

# start_engine LETTER NAME SIZE PORT ARGUMENTS...: waits for the copies, not for the engine
start_engine() {
  local letter=$1 name=$2 size=$3 port=$4 n
  shift 4
  for n in 1 2 3; do within 300 grep -q 'replica ready' /run/copy$n.out; done
  setsid engine controller $name --size $size --disableRevCounter --frontend iscsi-blockdev --listen 127.0.0.1:$port \
    --replica tcp://10.9.0.11:10000 --replica tcp://10.9.0.12:10000 --replica tcp://10.9.0.13:10000 "$@" \
    >/run/engine-$letter.out 2>&1 </dev/null &
  echo $! >/run/engine-$letter.pid
}

# engine_port: of the engine that has the volume
engine_port() { [ "$(cat /run/engine.now)" = b ] && echo 9502 || echo 9501; }

# mode_of NODE PORT: RW, WO or ERR
mode_of() { engine --url http://127.0.0.1:$2 ls-replica | sed -n "s/.*10.9.0.1$1:10000 *\t* *\([A-Z]*\).*/\1/p"; }
