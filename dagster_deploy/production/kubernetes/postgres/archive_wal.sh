#!/bin/sh
# Postgres calls this with the path and the name of a finished segment of its log: archive_command = 'sh ... %p %f'.
# It must say no to a name that is there with other content, and must not leave half a file under the final name.
set -eu
path=$1
name=$2
archive=${WAL_ARCHIVE:-/archive}
mkdir -p "$archive"
if [ -f "$archive/$name" ]; then
    cmp -s "$path" "$archive/$name"
    exit
fi
cp "$path" "$archive/.$name.part"
sync "$archive/.$name.part"
mv "$archive/.$name.part" "$archive/$name"
