"""What the first bytes of a picture tell of its format."""

from __future__ import annotations


def is_lossy(data: bytes) -> bool:
    """Whether the format threw detail away, so that enlarging it would enlarge what was put in its place."""
    if data.startswith(b"\xff\xd8"):  # JPEG
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return data[12:16] == b"VP8 " or (data[12:16] == b"VP8X" and b"VP8 " in data[:4096])
    return data[4:12] in (b"ftypavif", b"ftypavis")  # nearly never without loss
