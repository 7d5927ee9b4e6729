# File servers in the machine, for backup targets. Sourced by bash, after lib.sh.

# nfs_server DIRECTORY: exports it to this machine; without the time that clients of an earlier server would get
nfs_server() {
  mkdir -p "$1" /run/rpc_pipefs
  modprobe nfsd
  mountpoint -q /proc/fs/nfsd || mount -t nfsd nfsd /proc/fs/nfsd
  mountpoint -q /run/rpc_pipefs || mount -t rpc_pipefs sunrpc /run/rpc_pipefs
  pgrep -x rpcbind >/dev/null || rpcbind -w
  echo "$1 127.0.0.1(rw,sync,no_root_squash,no_subtree_check,insecure)" >/etc/exports
  exportfs -ra
  rpc.nfsd --grace-time 10 --lease-time 10 4
  rpc.mountd
}

# nfs_over: ends it
nfs_over() {
  exportfs -ua
  rpc.nfsd 0
  kill $(pgrep -x rpc.mountd) $(pgrep -x rpcbind)
}

# unmount_shares TYPE: what the product has mounted stays mounted for the next time
unmount_shares() {
  local directory
  for directory in $(findmnt -n -l -t "$1" -o TARGET); do umount "$directory"; done
}
