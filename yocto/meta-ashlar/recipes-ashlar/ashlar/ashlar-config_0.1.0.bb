SUMMARY = "User, kernel settings and networks of the Ashlar appliance"
DESCRIPTION = "What the appliance has besides its programs, from the same files as its Debian image. \
The networks are a package of their own: they know the network cards by their addresses, so \
that a board brings its own instead."
LICENSE = "Apache-2.0"

require ashlar.inc

SRC_URI += "file://image/appliance;subdir=${BP}"

inherit features_check useradd

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"

# The same as in sysusers.d/ashlar.conf, which a test of the project's holds it to. The number is
# fixed because files on the state partition outlive the firmware that made them.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system --gid 990 ashlar"
USERADD_PARAM:${PN} = "--system --uid 990 --gid ashlar --comment 'Ashlar agent' \
    --home-dir ${localstatedir}/lib/ashlar --no-create-home --shell /sbin/nologin ashlar"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    cd ${S}/image/appliance
    for file in \
        etc/modprobe.d/ashlar.conf \
        etc/modules-load.d/ashlar.conf \
        etc/sysctl.d/ashlar.conf \
        etc/systemd/journald.conf.d/ashlar.conf \
        etc/systemd/network/* \
        etc/systemd/system.conf.d/ashlar.conf \
        etc/udev/rules.d/61-ashlar.rules \
        usr/lib/systemd/catalog/ashlar.catalog \
        usr/lib/sysusers.d/ashlar.conf \
        usr/lib/tmpfiles.d/ashlar.conf; do
        install -D -m 0644 $file ${D}/$file
    done
    install -D -m 0755 usr/lib/ashlar/on-system-disk ${D}${nonarch_libdir}/ashlar/on-system-disk
}

PACKAGE_BEFORE_PN = "ashlar-networks"

FILES:ashlar-networks += "${sysconfdir}/systemd/network"
FILES:${PN} += "\
    ${nonarch_libdir}/ashlar \
    ${nonarch_libdir}/systemd/catalog \
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
"

# What finds the system disk asks mountpoint.
RDEPENDS:${PN} = "util-linux-mountpoint"
