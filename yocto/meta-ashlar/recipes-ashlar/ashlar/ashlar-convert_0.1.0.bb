SUMMARY = "Reader of disk images for the Ashlar agent"
DESCRIPTION = "Reads an image of a stranger's in a process that can do nothing else. The agent \
starts it for every import of qcow2, vmdk, vhd or vhdx."
LICENSE = "Apache-2.0"

require ashlar-rust.inc
