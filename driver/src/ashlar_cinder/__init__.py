"""Cinder volume drivers for Ashlar appliances.

``ashlar_cinder.iscsi.AshlarISCSIDriver``, ``ashlar_cinder.nvme.AshlarNVMeDriver`` and
``ashlar_cinder.fc.AshlarFCDriver`` are what ``volume_driver`` in cinder.conf names. They are thin:
what is allowed, and what happens, the appliance decides. Under them is ``ashlar_cinder.client``,
which knows nothing of Cinder.
"""

__version__ = "0.1.0"
