# For every machine that requires ashlar-uefi.inc, those of other layers among them.
FILESEXTRAPATHS:prepend:ashlar-uefi := "${THISDIR}/files:"

COMPATIBLE_MACHINE:ashlar-uefi = "^ashlar-uefi$"

KERNEL_FEATURES:append:ashlar-uefi = " cfg/virtio.scc"

# There is no initial file system: what the root lies on is built in.
SRC_URI:append:ashlar-uefi = " file://boot.cfg"
SRC_URI:append:ashlar-x86-64 = " file://x86-64.cfg"
