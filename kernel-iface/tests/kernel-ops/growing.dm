# A pool that grows beneath its volumes. Needs disks /dev/vda and /dev/vdb of 256 MiB without use.

create meta ASHLAR-meta = ok
load meta 0 8192 linear @/vda 2048 = ok
resume meta = ok
create data ASHLAR-data = ok
load data 0 131072 linear @/vda 16384 = ok
resume data = ok
zero @meta = ok
blocks @meta = none
create pool ASHLAR-pool = ok
load pool 0 131072 thin-pool @meta @data 128 4 0 = ok
resume pool = ok
totals pool = metadata 1024 data 1024
blocks @meta = metadata 1024 data 1024
message pool create_thin 1 = ok
create vol ASHLAR-vol = ok
load vol 0 2048 thin @pool 1 = ok
resume vol = ok
scribble @vol = ok

# longer devices below change nothing
load data 0 131072 linear @/vda 16384; 131072 65536 linear @/vdb 16384 = ok
resume data = ok
load meta 0 8192 linear @/vda 2048; 8192 2048 linear @/vdb 8192 = ok
resume meta = ok
deps data = @/vdb @/vda
totals pool = metadata 1024 data 1024

# the next table of the pool takes all of the metadata device, and of the data what it says
load pool 0 131072 thin-pool @meta @data 128 8 0 = ok
resume pool = ok
totals pool = metadata 1280 data 1024
blocks @meta = metadata 1280 data 1024
load pool 0 196608 thin-pool @meta @data 128 8 0 = ok
resume pool = ok
totals pool = metadata 1280 data 1536
blocks @meta = metadata 1280 data 1536
status vol = thin mapped 128

# a state that is held for a reader is noted elsewhere
message pool reserve_metadata_snap = ok
blocks @meta = metadata 1280 data 1536
message pool release_metadata_snap = ok
blocks @meta = metadata 1280 data 1536

# a disk in use is labelled anew, and not formatted
format @/vdb = EBUSY
relabel @/vdb = ok

# away and back, and never on less
remove vol = ok
remove pool = ok
metadata @meta = formatted
blocks @meta = metadata 1280 data 1536
create pool ASHLAR-pool = ok
load pool 0 131072 thin-pool @meta @data 128 8 0 = ok
resume pool = EINVAL
remove pool = ok
load meta 0 8192 linear @/vda 2048 = ok
resume meta = ok
create pool ASHLAR-pool = ok
load pool 0 196608 thin-pool @meta @data 128 8 0 = EIO
resume pool = ok
remove pool = ok
load meta 0 8192 linear @/vda 2048; 8192 2048 linear @/vdb 8192 = ok
resume meta = ok
create pool ASHLAR-pool = ok
load pool 0 196608 thin-pool @meta @data 128 8 0 = ok
resume pool = ok
totals pool = metadata 1280 data 1536
remove pool = ok
remove meta = ok
remove data = ok
open-exclusive @/vdb = ok
close @/vdb = ok
