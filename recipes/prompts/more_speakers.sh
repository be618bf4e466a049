#!/usr/bin/env bash
# recipes/prompts/more_speakers.sh PACKAGES OUT [PARAGRAPHS]
# PACKAGES is a folder in which gcin-voice, megaglest-data, 0ad-data and unknown-horizons were unpacked (dpkg -x). Writes
# 16 kHz FLAC to OUT/zh, one Mandarin speaker, and OUT/games, many speakers; and, where festival is installed with its voices
# kal_diphone and ked_diphone, at most PARAGRAPHS (80) spoken by each to OUT/kal and OUT/ked. Needs ffmpeg and unzip.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ] || [ ! -d "$1/usr/share" ]; then
    echo "more_speakers.sh: give the folder in which the packages were unpacked (dpkg -x), and the folder to write to" >&2
    exit 2
fi
for program in ffmpeg unzip; do
    command -v $program >/dev/null || { echo "more_speakers.sh: $program is missing: install it" >&2; exit 2; }
done
share=$1/usr/share out=$2 paragraphs=${3:-80}
if ! [[ $paragraphs =~ ^[0-9]+$ ]]; then
    echo "more_speakers.sh: PARAGRAPHS is '$paragraphs': give a number, 0 for none" >&2
    exit 2
fi
for folder in gcin-voice games/megaglest games/0ad unknown-horizons; do
    [ -d "$share/$folder" ] || { echo "more_speakers.sh: $share/$folder is missing: unpack its package there" >&2; exit 2; }
done

# decode FILE FOLDER NAME: beside, then renamed, so that what lies there is whole.
decode() {
    mkdir -p "$out/$2"
    ffmpeg -nostdin -loglevel error -y -i "$1" -map_metadata -1 -ac 1 -ar 16000 -f flac "$out/$2/.decoding"
    mv "$out/$2/.decoding" "$out/$2/$3.flac"
}

# CC-BY-3.0: a syllable a folder; 5.ogg is the speaker Chu Lo (3.ogg has another licence).
find "$share/gcin-voice/ogg" -name 5.ogg | LC_ALL=C sort | while IFS= read -r file; do
    decode "$file" zh "$(basename "$(dirname "$file")")"
done

# CC-BY-SA-3.0: what units answer; animals, ghosts and machines are left out, and copies, which lie in several folders.
declare -A seen
while IFS= read -r file; do
    sum=$(md5sum < "$file")
    [ -z "${seen[$sum]:-}" ] || continue
    seen[$sum]=1
    name=${file#*/megapack/}
    name=${name%.*}
    decode "$file" games "megaglest__${name//\//__}"
done < <(find "$share/games/megaglest/techs" -name '*.wav' | grep -E '_(ack|select)[_0-9]*\.wav$' | grep -vE \
    'dragon|chicken|bull|cow|pig_|wild_sow|elephant|eagle|thunderbird|behemoth|mummy|ghost|snake|carpet|airship|battle_machine|ornithopter' |
    LC_ALL=C sort)

# CC-BY-SA-3.0: Greek, Latin and Persian.
voices=$(mktemp -d)
trap 'rm -r "$voices"' EXIT
unzip -q "$share/games/0ad/mods/public/public.zip" 'audio/voice/*.ogg' -d "$voices"
find "$voices" -name '*.ogg' | grep -v _dog_ | LC_ALL=C sort | while IFS= read -r file; do
    name=${file#"$voices"/audio/voice/}
    name=${name%.ogg}
    decode "$file" games "0ad__${name//\//__}"
done

# CC-BY-SA-3.0: a greeting in three languages.
find "$share/unknown-horizons/content/audio/voice" -name '*.ogg' | LC_ALL=C sort | while IFS= read -r file; do
    name=${file#*/voice/}
    name=${name%.ogg}
    decode "$file" games "unknown-horizons__${name//\//__}"
done

# Licences like BSD: two American men's diphones; the texts are paragraphs of two licences, as these lie on every Debian.
if [ "$paragraphs" -gt 0 ] && command -v text2wave >/dev/null; then
    for voice in kal:GPL-3 ked:MPL-2.0; do
        name=${voice%%:*} text=/usr/share/common-licenses/${voice#*:}
        count=0
        mkdir -p "$out/$name"
        tr '\n' '\f' < "$text" | sed 's/\f *\f/\n/g' | tr '\f' ' ' | tr -s ' -' | while IFS= read -r paragraph; do
            [ ${#paragraph} -ge 60 ] && [ $count -lt "$paragraphs" ] || continue
            count=$((count + 1))
            text2wave -eval "(voice_${name}_diphone)" -o "$out/$name/.speaking" - <<< "${paragraph:0:300}"
            mv "$out/$name/.speaking" "$out/$name/$(printf 'paragraph_%02d' $count).wav"
        done
    done
fi
for folder in zh games kal ked; do
    [ ! -d "$out/$folder" ] || echo "$out/$folder: $(find "$out/$folder" -type f | wc -l) files"
done
