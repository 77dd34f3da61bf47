SUMMARY = "Management daemon of the Ashlar block-storage appliance"
DESCRIPTION = "The unprivileged daemon: TLS, the management protocol, policy, metadata. What is to \
be in the kernel it tells ashlar-targetd."
LICENSE = "Apache-2.0"

require ashlar-rust.inc

inherit features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"

SYSTEMD_SERVICE:${PN} = "ashlar-agent.service ashlar-restart.socket"

do_install:append() {
    install -d ${D}${systemd_system_unitdir}
    install -m 0644 ${S}/image/appliance/etc/systemd/system/ashlar-agent.service \
        ${S}/image/appliance/etc/systemd/system/ashlar-restart.socket \
        ${S}/image/appliance/etc/systemd/system/ashlar-restart@.service \
        ${D}${systemd_system_unitdir}
}

RDEPENDS:${PN} = "\
    ashlar-config \
    ashlar-convert \
    ashlar-targetd \
"
