SUMMARY = "Target daemon of the Ashlar block-storage appliance"
DESCRIPTION = "The privileged daemon, the only process that writes kernel state: LIO, nvmet, \
device-mapper."
LICENSE = "Apache-2.0"

require ashlar-rust.inc

inherit features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"

SYSTEMD_SERVICE:${PN} = "ashlar-targetd.service run-blkio.mount"

do_install:append() {
    for unit in ${SYSTEMD_SERVICE:${PN}}; do
        install -D -m 0644 ${S}/image/appliance/etc/systemd/system/$unit \
            ${D}${systemd_system_unitdir}/$unit
    done
}

RDEPENDS:${PN} = "ashlar-config"
