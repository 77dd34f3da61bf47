SUMMARY = "The Ashlar appliance, for developers"
DESCRIPTION = "The same with ssh and a console, to both of which root logs in without a password, \
and tools to look around with. Not for anybody's data."

require ashlar-image.inc

# That is what it is for.
# nooelint: oelint.var.badimagefeature
IMAGE_FEATURES += "\
    allow-empty-password \
    allow-root-login \
    empty-root-password \
    ssh-server-dropbear \
"
IMAGE_INSTALL += "\
    ashlarctl \
    bash \
    fio \
    iproute2 \
    lvm2 \
    nvme-cli \
    strace \
"
