SUMMARY = "Boot menu of the Ashlar appliance"
DESCRIPTION = "Configuration of systemd-boot on the ESP: one entry for each slot of the firmware."

LICENSE = "Apache-2.0"

# nooelint: oelint.file.requirenotfound
require recipes-ashlar/ashlar/ashlar.inc

SRC_URI += "\
    file://entry.conf;subdir=${BP} \
    file://loader.conf;subdir=${BP} \
"

inherit deploy nopackages

INHIBIT_DEFAULT_DEPS = "1"
PACKAGE_ARCH = "${MACHINE_ARCH}"

# Partitions are found by the name in the GPT, and never by what systemd makes of their types. No
# units or passwords are taken from the machine's firmware tables.
ASHLAR_CMDLINE ?= "\
    rootwait \
    ro \
    console=${KERNEL_CONSOLE} \
    quiet \
    systemd.show_status=no \
    systemd.gpt_auto=no \
    systemd.import_credentials=no \
"

do_configure[noexec] = "1"
do_install[noexec] = "1"

do_compile() {
    for slot in a b; do
        sed -e "s|@SLOT@|$slot|" -e "s|@CMDLINE@|$(echo ${ASHLAR_CMDLINE})|" \
            ${S}/entry.conf >${B}/ashlar-$slot.conf
    done
}

do_deploy() {
    install -m 0644 -D ${S}/loader.conf ${DEPLOYDIR}/ashlar-loader.conf
    install -m 0644 ${B}/ashlar-a.conf ${B}/ashlar-b.conf ${DEPLOYDIR}
}

addtask deploy after do_compile before do_build
