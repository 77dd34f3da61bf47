# Disks as Ashlar reads and writes them. Needs disks /dev/vda and /dev/vdb of 256 MiB; /dev/vdb
# is overwritten.

target linear = true
target error = true
target thin = true
target thin-pool = true
target none-such = false

size @/vdb = 268435456 bytes
wipe @/vdb = ok
probe @/vdb = blank
discard @/vdb = ok
scribble @/vdb = ok
probe @/vdb = unknown data
wipe @/vdb = ok
format @/vdb = ok
probe @/vdb = pool disk 0 of 1, 266338304 bytes at 1048576 bytes
metadata @/vdb = unknown

# a disk in use is neither formatted nor wiped
open-exclusive @/vdb = ok
format @/vdb = EBUSY
wipe @/vdb = EBUSY
probe @/vdb = pool disk 0 of 1, 266338304 bytes at 1048576 bytes
close @/vdb = ok
create stretch ASHLAR-stretch = ok
load stretch 0 8192 linear @/vdb 4096 = ok
format @/vdb = EBUSY
wipe @/vdb = EBUSY
probe @/vdb = pool disk 0 of 1, 266338304 bytes at 1048576 bytes

# the table shows the disk's own bytes at once, and the disk the table's
size @stretch = 0 bytes
resume stretch = ok
size @stretch = 4194304 bytes
metadata @stretch = zero
scribble @stretch = ok
metadata @stretch = unknown
zero @stretch = ok
metadata @stretch = zero
probe @/vdb = pool disk 0 of 1, 266338304 bytes at 1048576 bytes
remove stretch = ok

# wiping makes it blank again
format @/vdb = ok
probe @/vdb = pool disk 0 of 1, 266338304 bytes at 1048576 bytes
wipe @/vdb = ok
probe @/vdb = blank
