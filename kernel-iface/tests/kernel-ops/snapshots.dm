# Snapshots, clones and reverts as Ashlar makes them. Needs a disk /dev/vda of 256 MiB without use.

# a pool with a written volume on it
create meta ASHLAR-meta = ok
load meta 0 8192 linear @/vda 2048 = ok
resume meta = ok
create data ASHLAR-data = ok
load data 0 131072 linear @/vda 16384 = ok
resume data = ok
zero @meta = ok
create pool ASHLAR-pool = ok
load pool 0 131072 thin-pool @meta @data 128 4 0 = ok
resume pool = ok
message pool create_thin 1 = ok
create vol ASHLAR-vol = ok
load vol 0 2048 thin @pool 1 = ok
resume vol = ok
status vol = thin mapped 0
scribble @vol = ok
status vol = thin mapped 128

# a snapshot while the origin rests
suspend vol = ok
message pool create_snap 2 1 = ok
info vol = live suspended
resume vol = ok
info vol = live

# whether there is one, asked without making one
message pool create_snap 2 2 = EEXIST
message pool create_snap 3 3 = ENODATA
message pool create_snap 3 3 = ENODATA
message pool create_snap 2 1 = EEXIST

# what shares blocks counts them, too; a disk that hosts could write is not made of what is read-only
create look ASHLAR-look = ok
load-ro look 0 2048 thin @pool 2 = ok
resume look = ok
info look = live read-only
status look = thin mapped 128
open @look = ok
close @look = ok
message pool delete 2 = EBUSY
backstore look = EACCES
backstore-ro look = ok
backstore vol = ok
suspend look = ok
message pool create_snap 4 2 = ok
resume look = ok
info look = live read-only
remove look = ok

# a length has nothing to do with what is mapped
create look ASHLAR-look = ok
load-ro look 0 8 thin @pool 2 = ok
resume look = ok
status look = thin mapped 128
remove look = ok

# a snapshot of a snapshot, a larger clone
message pool create_snap 5 4 = ok
create clone ASHLAR-clone = ok
load clone 0 8192 thin @pool 5 = ok
resume clone = ok
status clone = thin mapped 128
remove clone = ok

# a resting origin with a table that waits: the resume makes it live
load vol 0 4096 thin @pool 1 = ok
suspend vol = ok
message pool create_snap 6 1 = ok
info vol = live inactive suspended
clear vol = ok
info vol = live suspended
resume vol = ok
table vol live = 0 2048 thin @pool 1
message pool delete 6 = ok

# another thin device beneath what is open
open-exclusive @vol = ok
info vol = live open 1
load vol 0 2048 thin @pool 5 = ok
message pool delete 1 = EBUSY
message pool delete 5 = EBUSY
resume vol = ok
table vol live = 0 2048 thin @pool 5
info vol = live open 1
message pool delete 5 = EBUSY
message pool delete 1 = ok
message pool delete 1 = ENODATA
close @vol = ok

# and back, from a device that rests
suspend vol = ok
load vol 0 2048 thin @pool 2 = ok
info vol = live inactive suspended
resume vol = ok
table vol live = 0 2048 thin @pool 2
status vol = thin mapped 128
message pool delete 5 = ok

# an origin goes before its snapshots
message pool delete 2 = EBUSY
remove vol = ok
message pool delete 2 = ok
create look ASHLAR-look = ok
load-ro look 0 2048 thin @pool 2 = ENODATA
load-ro look 0 2048 thin @pool 4 = ok
resume look = ok
status look = thin mapped 128
remove look = ok
message pool create_snap 2 4 = ok

# a device that rests can go
create vol ASHLAR-vol = ok
load vol 0 2048 thin @pool 4 = ok
resume vol = ok
suspend vol = ok
message pool delete 4 = EBUSY
remove vol = ok
message pool delete 4 = ok
message pool delete 2 = ok

# several devices on one thin device
message pool create_thin 7 = ok
create vol ASHLAR-vol = ok
load vol 0 2048 thin @pool 7 = ok
resume vol = ok
create look ASHLAR-look = ok
load-ro look 0 2048 thin @pool 7 = ok
resume look = ok
suspend vol = ok
message pool create_snap 8 7 = ok
resume vol = ok
remove look = ok
remove vol = ok
message pool delete 7 = ok
message pool delete 8 = ok

# nothing stays
status pool = pool transaction 0 data 0/1024 rw PassedDown
remove pool = ok
remove meta = ok
remove data = ok
