SUMMARY = "What makes a Linux system an Ashlar appliance"
DESCRIPTION = "The daemons, the tools for thin metadata, and the modules of the kernel that they use."

# Kernels differ between machines.
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup features_check

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"

def ashlar_kernel_modules(d):
    """The packages of the modules that the appliance's Debian image has, too."""
    path = os.path.join(d.getVar("ASHLAR_CHECKOUT"), "image/appliance/modules.txt")
    bb.parse.mark_dependency(d, path)
    with open(path) as file:
        names = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    return " ".join("kernel-module-" + name.replace("_", "-") for name in names)

# Networks of the machine, by the addresses of its cards.
ASHLAR_NETWORKS ?= "ashlar-networks"

RDEPENDS:${PN} = "\
    ${ASHLAR_NETWORKS} \
    ashlar-agent \
    ashlar-targetd \
    thin-provisioning-tools \
"

# What a machine has built into its kernel, or not at all, has no package.
ASHLAR_KERNEL_MODULES = "${@ashlar_kernel_modules(d)}"
ASHLAR_KERNEL_MODULES[vardepvalue] = "${ASHLAR_KERNEL_MODULES}"
RRECOMMENDS:${PN} = "${ASHLAR_KERNEL_MODULES}"
