# What the factory's programs have in common; each reads it with `.` first.
# shellcheck shell=sh
set -eu

# Ranges of letters are ASCII's, and tools' words English.
LC_ALL=C
export LC_ALL

# What is written here is for its owner only.
umask 077

ASHLARCTL=${ASHLARCTL:-ashlarctl}
# Which box, and whom to trust, is said with each call.
unset ASHLAR_ENDPOINT ASHLAR_SERVER_NAME ASHLAR_CA
PROGRAM=${0##*/}

fail() {
    echo "$PROGRAM: $1" >&2
    exit 1
}

say() {
    echo "$PROGRAM: $1" >&2
}

# The value of an option, which is not empty.
value() {
    [ "$#" -ge 2 ] && [ -n "$2" ] || {
        echo "$PROGRAM: $1 needs a value" >&2
        usage
    }
    echo "$2"
}

needs() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || fail "$tool is not installed"
    done
}

# 1 to 32 letters, digits and hyphens, no hyphen at either end: a plain file name, too.
check_serial() {
    case $1 in
        '' | -* | *- | *[!A-Za-z0-9-]*) fail "'$1' is no serial number: A-Z a-z 0-9 -, no - at either end" ;;
    esac
    [ "${#1}" -le 32 ] || fail "'$1' is no serial number: it has more than 32 characters"
}

lower() {
    echo "$1" | tr '[:upper:]' '[:lower:]'
}

# Has what was written as $1.new take the place of $1, on the disk, too.
settle() {
    sync "$1.new"
    mv "$1.new" "$1"
    sync "$(dirname "$1")"
}

# The folder of one box, which no other program may use until this one ends. Those of serial numbers
# that differ only in case would have the same name in their certificates.
open_box() {
    check_serial "$2"
    mkdir -p "$1"
    BOX=$(cd "$1" && pwd)/$2
    other=$(find "$1" -mindepth 1 -maxdepth 1 -iname "$2" ! -name "$2")
    [ -z "$other" ] || fail "$other is there already: serial numbers differ in more than case"
    mkdir -p "$BOX"
    exec 9>"$BOX/lock"
    flock -n 9 || fail "another program is at work on $2"
}

# The folder of a box that was flashed here.
open_flashed_box() {
    check_serial "$2"
    [ -s "$1/$2/token" ] || fail "$2 was not flashed here: there is no $1/$2/token"
    open_box "$1" "$2"
}

# SHA-256 of standard input, in hexadecimal. Nothing is an error: what should have written here has
# failed.
digest() {
    sum=$(sha256sum | cut -d ' ' -f 1)
    [ "$sum" != "$(sha256sum </dev/null | cut -d ' ' -f 1)" ] || return 1
    echo "$sum"
}

# SHA-256 of a public key (PEM on standard input) as SubjectPublicKeyInfo.
key_digest() {
    openssl pkey -pubin -outform DER 2>/dev/null | digest
}

certificate_key() {
    openssl x509 -in "$1" -noout -pubkey 2>/dev/null | key_digest
}

request_key() {
    openssl req -in "$1" -noout -pubkey 2>/dev/null | key_digest
}

# The fingerprint of a file's first certificate.
fingerprint() {
    openssl x509 -in "$1" -outform DER 2>/dev/null | digest
}

# Asks the box at $ADDRESS as the station. It has to prove that it was flashed with the token.
box() {
    "$ASHLARCTL" --endpoint "$ADDRESS" --token "$BOX/token" "$@"
}

# The box's identity as JSON, into a file. It has the serial number $SERIAL, and is being made.
identify() {
    box --output json identity show >"$1"
    phase=$(jq -r .phase "$1")
    serial=$(jq -r .serial "$1")
    [ "$serial" = "$SERIAL" ] || fail "the box at $ADDRESS is $serial"
    [ "$phase" = factory ] ||
        fail "$SERIAL is in the phase '$phase': only a box that is being made is worked on here"
}

# What shows that the key is by the box with the token: of each key another.
proof() {
    jq -r '.proof // ""' "$1"
}
