# Only where the distribution says that it makes an appliance: the layer by itself changes nothing.
require ${@bb.utils.contains('DISTRO_FEATURES', 'ashlar', 'ashlar-kernel.inc', '', d)}
