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

# cifs_server DIRECTORY NAME PASSWORD: shares it as "backups" with this machine
cifs_server() {
  mkdir -p "$1" /run/samba /var/lib/samba/private /var/log/samba
  cat >/etc/samba/smb.conf <<END
[global]
  server role = standalone server
  interfaces = lo
  bind interfaces only = yes
  disable netbios = yes
  smb ports = 445
  load printers = no
[backups]
  path = $1
  read only = no
  force user = root
END
  useradd --no-create-home "$2" 2>/dev/null || true
  printf '%s\n%s\n' "$3" "$3" | smbpasswd -s -a "$2"
  setsid smbd --foreground --no-process-group >/run/smbd.out 2>&1 </dev/null &
  echo $! >/run/smbd.pid
  listens() { ss -ltn | grep -q '127.0.0.1:445'; }
  within 120 listens
}

# cifs_over: ends it
cifs_over() {
  kill -TERM $(cat /run/smbd.pid)
  within 60 is_over smbd
}

# unmount_shares TYPE: what the product has mounted stays mounted for the next time
unmount_shares() {
  local directory
  for directory in $(findmnt -n -l -t "$1" -o TARGET); do umount "$directory"; done
}
