# The same mounts as the appliance's Debian image has, but for the root's: that is what the boot
# loader's entry says.
FILESEXTRAPATHS:prepend:ashlar := "${ASHLAR_CHECKOUT}/image/appliance/etc:"

do_install:append:ashlar() {
    awk '$2 != "/"' ${S}/fstab >${D}${sysconfdir}/fstab
}
