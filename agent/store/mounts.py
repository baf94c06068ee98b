"""Says whether a path lies on a file system where SQLite's locks can't be trusted.

Takes a path; gives the file system's name, or None if it is fine or nobody tells.
"""

import re
from pathlib import Path, PurePosixPath

# Locks and shared memory of these are advisory, late or missing: two writers can corrupt a database.
_NETWORK = re.compile(
    r"nfs[34]?|cifs|smb[23]?|smbfs|afs|ncpfs|coda|davfs2?|lustre|ceph|glusterfs|beegfs|gpfs|ocfs2|gfs2?|pvfs2|orangefs"
    r"|9p|drvfs|panfs|wekafs|moosefs|juicefs|acfs|vboxsf|vmhgfs|prl_fs|sshfs|s3fs"
)
_FUSE_NETWORK = re.compile(
    r"fuse\.(sshfs|rclone|s3fs|s3ql|gcsfuse|goofys|geesefs|juicefs|glusterfs|ceph|moosefs|mfs|mfsmount|seaweedfs|weed"
    r"|davfs2?|curlftpfs|smbnetfs|vmhgfs-fuse|blobfuse2?|mount-s3|mountpoint-s3|cvmfs2?|dfuse|quobyte|gvfsd-fuse|gdrive)"
)


def network_file_system_of(path: Path) -> str | None:
    try:
        mounts = Path("/proc/mounts").read_text("utf-8", "replace")
    except OSError:
        return None
    return network_file_system(mounts, PurePosixPath(path.resolve()))


def network_file_system(mounts: str, path: PurePosixPath) -> str | None:
    """By the text of /proc/mounts and a resolved path: what the deepest and latest mount above it is."""
    found = ("", -1)
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = PurePosixPath(_unescape(fields[1]))
        depth = len(point.parts)
        if depth >= found[1] and path.is_relative_to(point):
            found = (fields[2], depth)
    kind, depth = found
    # A root of 9p is a sandbox whose only user of that disk is this one kernel.
    if kind == "9p" and depth == 1:
        return None
    return kind if _NETWORK.fullmatch(kind) or _FUSE_NETWORK.fullmatch(kind) else None


def _unescape(field: str) -> str:
    """A space in a mount point is written \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
