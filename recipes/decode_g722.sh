#!/usr/bin/env bash
# recipes/decode_g722.sh FOLDER OUT
# Every .g722 file below FOLDER becomes a 16 kHz FLAC in OUT, digits/1.g722 as digits__1.flac. Needs ffmpeg.
set -euo pipefail

if [ $# -ne 2 ] || [ ! -d "$1" ]; then
    echo "decode_g722.sh: give the folder with .g722 files, and the folder to write to" >&2
    exit 2
fi
command -v ffmpeg >/dev/null || { echo "decode_g722.sh: ffmpeg is missing: install it" >&2; exit 2; }
from=${1%/} to=$2
mkdir -p "$to"
count=0
while IFS= read -r -d '' file; do
    name=${file#"$from"/}
    name=${name%.g722}
    # Beside, then renamed: what lies there is whole. -f, as neither name tells ffmpeg the format.
    ffmpeg -nostdin -loglevel error -y -f g722 -i "$file" -f flac "$to/.decoding"
    mv "$to/.decoding" "$to/${name//\//__}.flac"
    count=$((count + 1))
done < <(find -L "$from" -name '*.g722' -print0)
echo "$to: $count files"
