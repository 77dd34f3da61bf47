SUMMARY = "Command line for Ashlar appliances"
DESCRIPTION = "For operators and factory scripts, over the management protocol. It runs on any \
machine that has a client certificate, and is no part of the appliance."
LICENSE = "Apache-2.0"

require ashlar-rust.inc

ASHLAR_CRATE = "ashlar-ctl"
ASHLAR_BINDIR = "${bindir}"
