FILESEXTRAPATHS:prepend:ashlar-x86-64 := "${THISDIR}/files:"
FILESEXTRAPATHS:prepend:ashlar-qemuarm64 := "${THISDIR}/files:"

COMPATIBLE_MACHINE:ashlar-x86-64 = "^ashlar-x86-64$"
COMPATIBLE_MACHINE:ashlar-qemuarm64 = "^ashlar-qemuarm64$"

# Boards of the kernel's own meta-data that these are like.
KMACHINE:ashlar-x86-64 = "common-pc-64"
KMACHINE:ashlar-qemuarm64 = "qemuarm64"

KERNEL_FEATURES:append:ashlar-x86-64 = " cfg/virtio.scc"
KERNEL_FEATURES:append:ashlar-qemuarm64 = " cfg/virtio.scc"

# There is no initial file system: what the root lies on is built in.
SRC_URI:append:ashlar-x86-64 = " file://boot.cfg file://x86-64.cfg"
SRC_URI:append:ashlar-qemuarm64 = " file://boot.cfg"
