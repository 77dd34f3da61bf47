//! Attributes that are one small number or word each, by name.

macro_rules! attributes {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $file:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every attribute, in the order of the enum.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The name of its file.
            pub fn file(self) -> &'static str {
                match self {
                    $($name::$variant => $file,)*
                }
            }
        }
    };
}

attributes!(
    /// An attribute of a backstore, below `attrib/`.
    DeviceAttribute {
        /// 1: the initiator may discard blocks (SCSI UNMAP). Only on an enabled backstore
        /// whose device can discard.
        EmulateTpu => "emulate_tpu",
        /// 1: the initiator may discard blocks (SCSI WRITE SAME with UNMAP). As `EmulateTpu`.
        EmulateTpws => "emulate_tpws",
        /// 1: discarded blocks read as zeroes. Not while exported.
        UnmapZeroesData => "unmap_zeroes_data",
        /// Blocks that one WRITE SAME may write; enabling sets it. 0: none, and that of every
        /// initiator: the kernel does not see that a WRITE SAME that says it reads would write
        /// to a write-protected LUN.
        MaxWriteSameLen => "max_write_same_len",
        /// 1: the COMPARE AND WRITE command, which clustered initiators need.
        EmulateCaw => "emulate_caw",
        /// 1: the EXTENDED COPY command between LUNs of this box.
        EmulateThirdPartyCopy => "emulate_3pc",
        /// 1: persistent reservations.
        EmulatePr => "emulate_pr",
        /// 1: tells initiators that the device is not a spinning disk.
        IsNonrot => "is_nonrot",
        /// Bytes of a logical block: 512, 1024, 2048 or 4096. Not while exported.
        BlockSize => "block_size",
    }
);

attributes!(
    /// A number of a target portal group, below `attrib/`.
    TpgAttribute {
        /// 1: initiators must authenticate (CHAP).
        Authentication => "authentication",
        /// 1: any initiator may log in. Anything but 0 opens the target to everyone.
        GenerateNodeAcls => "generate_node_acls",
        /// 1: initiators without an ACL of their own may only read.
        DemoModeWriteProtect => "demo_mode_write_protect",
        /// 1: initiators with an ACL of their own may only read, unless their mapped LUN says
        /// otherwise.
        ProdModeWriteProtect => "prod_mode_write_protect",
        /// 1: the target is listed to initiators that may not log in.
        DemoModeDiscovery => "demo_mode_discovery",
        /// 1: ACLs made for anyone are kept.
        CacheDynamicAcls => "cache_dynamic_acls",
        /// Commands an initiator may have in flight, 1 to 512, for ACLs made from now on.
        DefaultCmdsnDepth => "default_cmdsn_depth",
        /// Seconds an initiator has to log in, 5 to 30.
        LoginTimeout => "login_timeout",
    }
);

attributes!(
    /// A key that initiator and target negotiate at login, below `param/` (RFC 7143, 13).
    TpgParameter {
        /// Digests over headers, such as `CRC32C,None`.
        HeaderDigest => "HeaderDigest",
        /// Digests over data, such as `CRC32C,None`.
        DataDigest => "DataDigest",
        /// `Yes`: the initiator waits for permission before it sends data.
        InitialR2T => "InitialR2T",
        /// `Yes`: data may come along with the command.
        ImmediateData => "ImmediateData",
        /// Bytes that may come without permission.
        FirstBurstLength => "FirstBurstLength",
        /// Bytes of one permitted burst.
        MaxBurstLength => "MaxBurstLength",
        /// Bytes of one PDU this side receives.
        MaxRecvDataSegmentLength => "MaxRecvDataSegmentLength",
        /// Permissions that may be outstanding for one command.
        MaxOutstandingR2T => "MaxOutstandingR2T",
    }
);
