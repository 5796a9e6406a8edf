#!/bin/sh
# Runs the page's Java samples through the official Java SDK against a fresh
# server: ./run.sh [VERSION of cn.leancloud:realtime-core]. See README.md.
set -eu
cd "$(dirname "$0")"

version=${1:-6.0.5}
binary=${POSTHOUSE_BIN:-../../target/release/posthouse}
[ -x "$binary" ] || { echo "There is no server at $binary: build it, or set POSTHOUSE_BIN." >&2; exit 1; }

case $version in
  6.*) source=src/main/java ;;
  *)
    # The generation since 8.0 has the same API under other names.
    source=target/renamed
    rm -rf "$source"
    mkdir -p "$source"
    cp -R src/main/java/. "$source"
    find "$source" -name '*.java' -exec sed -i \
      -e 's/AVIM/LCIM/g' -e 's/AVOSCloud/LeanCloud/g' -e 's/\bAV\(Exception\|Callback\|ConnectionManager\)\b/LC\1/g' {} +
    ;;
esac

mvn -q -B -Drealtime.version="$version" -Dsource.dir="$source" clean compile \
  dependency:build-classpath -Dmdep.outputFile=target/classpath ${MAVEN_ARGS:-} 2>&1 | grep -v '^\[WARNING\]' || true
[ -f target/classpath ] || { echo "The Java SDK $version could not be fetched or compiled." >&2; exit 1; }

work=$(mktemp -d)
server=
stop() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap stop EXIT INT TERM

field() { sed -n "s/.*\"$2\" *: *\"\([^\"]*\)\".*/\1/p" "$work/$1.json"; }

mkdir "$work/data"
for app in create ttl; do
  "$binary" app create "$app" --data "$work/data" --json >"$work/$app.json"
  # Scenarios say in a moment what people say in an hour.
  "$binary" app set "$app" preset=unlimited --data "$work/data" >/dev/null
done
: >"$work/server.log"
"$binary" serve --data "$work/data" --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
  >"$work/server.log" 2>"$work/server.err" &
server=$!

url=
tries=0
while [ -z "$url" ]; do
  url=$(sed -n 's/^posthouse: ready on \(http[^ ]*\)$/\1/p' "$work/server.log")
  tries=$((tries + 1))
  if [ "$tries" -gt 150 ]; then
    echo "The server was not ready within 15 s." >&2
    cat "$work/server.log" "$work/server.err" >&2
    exit 1
  fi
  [ -n "$url" ] || sleep 0.1
done

here=$(pwd)
classpath="$here/target/classes:$(cat target/classpath)"
status=0
for part in create ttl; do
  # Each sample in a process and an app of its own; the SDK caches in its home.
  mkdir "$work/home-$part"
  (
    cd "$work/home-$part"
    timeout 90 java -Duser.home="$PWD" -Djava.io.tmpdir="$PWD" \
      -Dserver="$url" -DappId="$(field "$part" leancloud_id)" -DappKey="$(field "$part" leancloud_key)" \
      -Dsdk="$version" -Dpart="$part" -Dresults="$work/$part.results" \
      -cp "$classpath" conformance.Main
  ) || status=1
  [ -f "$work/$part.results" ] || { echo "The part $part gave no results." >&2; status=1; : >"$work/$part.results"; }
done

cat "$work/create.results" "$work/ttl.results" | LC_ALL=C sort >"$work/results.jsonl"
passed=$(grep -c '"outcome":"pass"' "$work/results.jsonl" || true)
failed=$(grep -c '"outcome":"fail"' "$work/results.jsonl" || true)
if [ "$version" = 6.0.5 ]; then
  if [ -f results.jsonl ] && ! cmp -s results.jsonl "$work/results.jsonl"; then
    echo "difference: the results are not those of results.jsonl"
    diff results.jsonl "$work/results.jsonl" || true
    status=1
  fi
  cp "$work/results.jsonl" results.jsonl
fi
[ "$status" = 0 ] || { echo "server:"; tail -20 "$work/server.err"; }
echo "$passed passed, $failed failed"
exit "$status"
