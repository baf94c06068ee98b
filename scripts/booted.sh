#!/usr/bin/env bash
# Runs a command in a machine that systemd has booted: scripts/booted.sh [--person] COMMAND ...
# An emulated one, ten to twenty times slower, with Debian's kernel and this machine's files; what is written goes to its
# memory and is gone with it. It has what a container lacks: control groups of version 2, a systemd that answers,
# people who log in (--person: as one of them, else as root). Needs apt-get, and root for it.
set -euo pipefail
as=root
if [ "${1:-}" = --person ]; then as=person && shift; fi
cd "$(dirname "$0")/.."
place=.venv/booted
mkdir -p "$place"
place=$(realpath "$place")

if [ ! -e "$place/vmlinuz" ]; then
    apt-get install --yes --quiet --no-install-recommends qemu-system-x86 busybox-static cpio >"$place/apt.log"
    kernel=$(apt-cache depends linux-image-amd64 | awk '/Depends:/ {print $2; exit}')
    (cd "$place" && rm -rf kernel ./*.deb && apt-get download --quiet "$kernel" 2>>apt.log && dpkg -x ./*.deb kernel)
    cp "$place"/kernel/boot/vmlinuz-* "$place/vmlinuz"
fi

rm -rf "$place/first" && mkdir -p "$place"/first/{bin,proc,sys,dev,host,over,new,mod} && cd "$place/first"
cp "$(command -v busybox)" bin/busybox
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci netfs fscache 9pnet 9pnet_virtio 9p overlay"
for module in $modules; do find ../kernel/lib/modules -name "$module.ko" -exec cp {} mod/ \; ; done
{
    printf '#!/bin/bash\ncd %q\nexport PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 PATH=%q\n' "$OLDPWD" "$PATH"
    printf '%q ' "$@"
} >command
cat >command.sh <<END
useradd --create-home --shell /bin/bash person 2>/dev/null
chmod o+x /root 2>/dev/null  # where a python may lie
if [ $as = person ]; then
    systemd-run --quiet --uid=person --property=PAMName=login --pipe --wait /bin/bash /command </dev/null
else
    /bin/bash /command </dev/null
fi >/dev/ttyS1 2>&1
echo \$? >/dev/ttyS2
systemctl --force poweroff
END
cat >command.service <<'END'
[Unit]
After=basic.target dbus.service systemd-logind.service systemd-user-sessions.service
Wants=basic.target dbus.service systemd-logind.service systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/bin/sh /command.sh
TimeoutStartSec=infinity
END
cat >init <<END
#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t sysfs none /sys
/bin/busybox mount -t devtmpfs none /dev
for module in $modules; do [ ! -e /mod/\$module.ko ] || /bin/busybox insmod /mod/\$module.ko; done
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=1048576,cache=loose host /host
/bin/busybox mount -t tmpfs -o size=4g none /over
/bin/busybox mkdir /over/upper /over/work
/bin/busybox mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work none /new
/bin/busybox cp /command /command.sh /new/
/bin/busybox cp /command.service /new/etc/systemd/system/
/bin/busybox rm -f /new/etc/fstab /new/.dockerenv
/bin/busybox ln -s /dev/null /new/etc/systemd/system/systemd-tmpfiles-setup.service  # it would empty /tmp
exec /bin/busybox switch_root /new /usr/lib/systemd/systemd
END
chmod +x init command.sh
find . | cpio --quiet -o -H newc | gzip -1 >"$place/initrd"

qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 6G -display none -monitor none -no-reboot -nic none \
    -kernel "$place/vmlinuz" -initrd "$place/initrd" \
    -append "console=ttyS0 quiet systemd.unit=command.service" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
    -serial "file:$place/boot.log" -serial stdio -serial "file:$place/code" </dev/null
code=$(tr -d '\r\n' <"$place/code")
exit "${code:-1}"
