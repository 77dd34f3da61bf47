# Device-mapper as Ashlar uses it. Needs a disk /dev/vda and a disk /dev/vdb of 256 MiB without use.

# nothing there
info x = absent
remove x = ENXIO
load x 0 8 linear @/vda 0 = ENXIO
suspend x = ENXIO
resume x = ENXIO
clear x = ENXIO
table x live = ENXIO
status x = ENXIO
deps x = ENXIO
message x create_thin 1 = ENXIO

# names and uuids are unique
create meta ASHLAR-meta = ok
create meta ASHLAR-other = EBUSY
create other ASHLAR-meta = EBUSY
info meta = (nothing)
open @meta = ENOENT

# without a table
table meta live = (nothing)
table meta inactive = (nothing)
status meta = (nothing)
deps meta = (nothing)
message meta create_thin 1 = EINVAL
clear meta = ok
resume meta = ok
info meta = (nothing)
suspend meta = ok
suspend meta = ok
info meta = suspended
resume meta = EINVAL
info meta = suspended

# tables that cannot be
load meta empty = EINVAL
load meta 0 0 linear @/vda 0 = EINVAL
load meta 0 1099511627776 linear @/vda 0 = EINVAL
load meta 0 8 linear @/vda 524288 = EINVAL
load meta 0 8 linear 200:9 0 = ENXIO
load meta 0 8 linear @meta 0 = EINVAL
info meta = suspended
open @meta = ENOENT

# a load makes the node, a resume makes the table live
load meta 0 8192 linear @/vda 2048 = ok
info meta = inactive suspended
open @meta = ok
info meta = inactive suspended open 1
close @meta = ok
table meta live = (nothing)
table meta inactive = 0 8192 linear @/vda 2048
deps meta = (nothing)
status meta = (nothing)
suspend meta = ok
resume meta = ok
info meta = live
table meta live = 0 8192 linear @/vda 2048
table meta inactive = (nothing)
deps meta = @/vda
status meta = plain
message meta create_thin 1 = EINVAL
resume meta = ok
suspend meta = ok
suspend meta = ok
info meta = live suspended
resume meta = ok

# the disk below is held
open-exclusive @/vda = EBUSY
open @/vda = ok
close @/vda = ok
open-exclusive @/vdb = ok
create blocked ASHLAR-blocked = ok
load blocked 0 8 linear @/vdb 0 = EBUSY
close @/vdb = ok
load blocked 0 8 linear @/vdb 0 = ok
open-exclusive @/vdb = EBUSY
clear blocked = ok
open-exclusive @/vdb = ok
close @/vdb = ok
remove blocked = ok

# an open device is not removed
open @meta = ok
remove meta = EBUSY
info meta = live open 1
close @meta = ok

# stretches one after the other
create data ASHLAR-data = ok
load data 0 65536 linear @/vda 16384; 65536 65536 linear @/vda 131072 = ok
resume data = ok
table data live = 0 65536 linear @/vda 16384; 65536 65536 linear @/vda 131072
deps data = @/vda
status data = plain; plain

# what is too large is seen at the first load, and after that only at the resume
load data 0 1099511627776 linear @/vda 0 = ok
info data = live inactive
resume data = EINVAL
info data = live suspended
table data live = 0 65536 linear @/vda 16384; 65536 65536 linear @/vda 131072
table data inactive = (nothing)
resume data = ok
info data = live

# a pool: its tables
create pool ASHLAR-pool = ok
scribble @meta = ok
metadata @meta = unknown
load pool 0 131072 thin-pool @meta @data 128 4 0 = ENOTBLK
metadata @meta = unknown
zero @meta = ok
metadata @meta = zero
load pool 0 131072 thin-pool @meta @data 100 4 0 = EINVAL
load pool 0 131072 thin-pool @meta @data 64 4 0 = EINVAL
load pool 0 131072 thin-pool @meta @data 192 4 0 = EINVAL
load pool 0 131072 thin-pool @data @data 128 4 0 = EINVAL
load pool 0 131072 thin-pool @meta 200:9 128 4 0 = ENXIO
metadata @meta = zero
load pool 0 131072 thin-pool @meta @data 128 4 0 = ok
metadata @meta = formatted
info pool = inactive
info meta = live open 1
message pool create_thin 1 = EINVAL
status pool = (nothing)
resume pool = ok
info pool = live
table pool live = 0 131072 thin-pool @meta @data 128 4 0
deps pool = @data @meta
status pool = pool transaction 0 data 0/1024 rw PassedDown

# its devices are held, and its metadata are its own
info meta = live open 1
remove meta = EBUSY
open-exclusive @meta = EBUSY
create pool2 ASHLAR-pool2 = ok
load pool2 0 131072 thin-pool @meta @data 128 4 0 = EBUSY
remove pool2 = ok

# thin devices in the metadata
message pool create_thin 1 = ok
message pool create_thin 1 = EEXIST
message pool create_thin 16777215 = ok
message pool delete 16777215 = ok
message pool create_snap 2 9 = ENODATA
message pool create_snap 1 1 = EEXIST
message pool create_snap 1 9 = EEXIST
message pool create_snap 2 1 = ok
message pool delete 9 = ENODATA
message pool delete 2 = ok
message pool delete 2 = ENODATA
message pool set_transaction_id 5 6 = EINVAL
message pool set_transaction_id 0 6 = ok
message pool set_transaction_id 0 6 = EINVAL
status pool = pool transaction 6 data 0/1024 rw PassedDown

# thin devices as devices
create vol ASHLAR-vol = ok
load vol 0 2048 thin @pool 9 = ENODATA
load vol 0 2048 thin @data 1 = EINVAL
load vol 0 2048 thin @/vda 1 = EINVAL
load vol 0 2048 thin 200:9 1 = ENXIO
load vol 0 2048 thin @pool 1 = ok
info vol = inactive
info pool = live open 1
message pool delete 1 = EBUSY
status vol = (nothing)
resume vol = ok
info vol = live
info pool = live open 1
table vol live = 0 2048 thin @pool 1
deps vol = @pool
status vol = thin mapped 0
message pool delete 1 = EBUSY
message vol create_thin 5 = EINVAL
message pool create_snap 3 1 = ok
message pool delete 3 = ok
remove pool = EBUSY
create vol2 ASHLAR-vol2 = ok
load vol2 0 2048 thin @pool 1 = ok
resume vol2 = ok
info pool = live open 2
remove vol2 = ok
info pool = live open 1

# larger, and read-only
load vol 0 4096 thin @pool 1 = ok
info vol = live inactive
table vol live = 0 2048 thin @pool 1
table vol inactive = 0 4096 thin @pool 1
resume vol = ok
table vol live = 0 4096 thin @pool 1
load vol 0 4096 thin @pool 1 = ok
clear vol = ok
info vol = live
load-ro vol 0 4096 thin @pool 1 = ok
resume vol = ok
info vol = live read-only
load vol 0 4096 thin @pool 1 = ok
resume vol = ok
info vol = live

# a suspended pool
suspend pool = ok
info pool = live suspended open 1
message pool create_thin 4 = ok
status pool = pool transaction 6 data 0/1024 rw PassedDown
load vol 0 4096 thin @pool 1 = EINVAL
resume pool = ok
message pool create_thin 4 = EEXIST
message pool delete 4 = ok

# a pool of another size
load pool 0 65536 thin-pool @meta @data 128 4 0 = ok
resume pool = EINVAL
info pool = live suspended open 1
load pool 0 131072 thin-pool @meta @data 128 4 0 = ok
resume pool = ok
info pool = live open 1
load pool 0 131072 thin-pool @meta @data 256 4 0 = ok
resume pool = ok
load pool 0 131072 thin-pool @meta @data 128 8 1 error_if_no_space = ok
resume pool = ok
table pool live = 0 131072 thin-pool @meta @data 128 8 1 error_if_no_space
status pool = pool transaction 6 data 0/1024 rw PassedDown error_if_no_space
load pool 0 131072 thin-pool @meta @data 128 8 0 = ok
resume pool = ok
load pool 0 131073 thin-pool @meta @data 128 8 0 = ok
resume pool = EINVAL
info pool = live suspended open 1
table pool live = 0 131072 thin-pool @meta @data 128 8 0
resume pool = ok
info pool = live open 1
load pool 0 131073 thin-pool @meta @data 128 8 0 = ok
clear pool = ok

# a thin device becomes an error
load vol 0 4096 error = ok
resume vol = ok
table vol live = 0 4096 error
deps vol = (nothing)
status vol = plain
info pool = live
message pool delete 1 = ok
remove vol = ok

# away and back
remove pool = ok
metadata @meta = formatted
info meta = live
create pool ASHLAR-pool = ok
load pool 0 131072 thin-pool @meta @data 256 4 0 = EINVAL
load pool 0 65536 thin-pool @meta @data 128 4 0 = ok
resume pool = EINVAL
info pool = live suspended
load pool 0 131072 thin-pool @meta @data 128 4 1 read_only = ok
resume pool = ok
status pool = pool transaction 6 data 0/1024 ro PassedDown
load pool 0 131072 thin-pool @meta @data 128 4 2 no_discard_passdown error_if_no_space = ok
resume pool = ok
status pool = pool transaction 6 data 0/1024 rw Freed error_if_no_space
message pool create_thin 7 = ok
remove pool = ok

# a zero superblock is a new pool
zero @meta = ok
create pool ASHLAR-pool = ok
load pool 0 131072 thin-pool @meta @data 128 4 0 = ok
resume pool = ok
status pool = pool transaction 0 data 0/1024 rw PassedDown
message pool create_thin 7 = ok
message pool create_thin 7 = EEXIST
remove pool = ok
remove meta = ok
remove data = ok
info data = absent
open-exclusive @/vda = ok
close @/vda = ok
