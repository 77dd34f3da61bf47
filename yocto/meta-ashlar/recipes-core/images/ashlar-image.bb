SUMMARY = "The Ashlar appliance"
DESCRIPTION = "Root file system of the appliance: read-only, and nobody can log in to it. It is \
managed over the network, with certificates."

require ashlar-image.inc

# Whatever a package brings that would ask for a login, or give a shell without.
ASHLAR_NO_LOGIN_UNITS = "\
    console-getty.service \
    container-getty@.service \
    debug-shell.service \
    emergency.service \
    getty.target \
    getty@.service \
    rescue.service \
    serial-getty@.service \
"

ashlar_no_logins() {
    install -d ${IMAGE_ROOTFS}${sysconfdir}/systemd/system
    for unit in ${ASHLAR_NO_LOGIN_UNITS}; do
        ln -sf /dev/null ${IMAGE_ROOTFS}${sysconfdir}/systemd/system/$unit
    done
}
ROOTFS_POSTPROCESS_COMMAND += "ashlar_no_logins"
