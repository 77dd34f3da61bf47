# Arrays of devices that stand in for each other. Needs disks /dev/vda and /dev/vdb of 256 MiB
# without use.

target raid = true
create s0 ASHLAR-s0 = ok
load s0 0 2048 linear @/vda 2048 = ok
resume s0 = ok
create l0 ASHLAR-l0 = ok
load l0 0 65536 linear @/vda 4096 = ok
resume l0 = ok
create s1 ASHLAR-s1 = ok
load s1 0 2048 linear @/vdb 2048 = ok
resume s1 = ok
create l1 ASHLAR-l1 = ok
load l1 0 65536 linear @/vdb 4096 = ok
resume l1 = ok
create s2 ASHLAR-s2 = ok
load s2 0 2048 linear @/vda 131072 = ok
resume s2 = ok
create l2 ASHLAR-l2 = ok
load l2 0 65536 linear @/vda 133120 = ok
resume l2 = ok
create s3 ASHLAR-s3 = ok
load s3 0 2048 linear @/vdb 131072 = ok
resume s3 = ok
create l3 ASHLAR-l3 = ok
load l3 0 65536 linear @/vdb 133120 = ok
resume l3 = ok
clear @s0 = ok
clear @s1 = ok
clear @s2 = ok
clear @s3 = ok

# a new one, all of whose legs are new
create set ASHLAR-set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 @s1 @l1 = ok
resume set = ok
table set live = 0 65536 raid raid1 1 0 2 @s0 @l0 @s1 @l1
deps set = @l1 @s1 @l0 @s0
await set = idle
status set = raid1 AA Idle
info set = live
scribble @set = ok
scrub set check = ok
await set = idle
status set = raid1 AA Idle
remove l0 = EBUSY
scrub set idle = EINVAL

# the same again, beside I/O
suspend set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 @s1 @l1 = ok
resume set = ok
await set = idle
status set = raid1 AA Idle

# without a leg, and with it again
suspend set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 - - = ok
resume set = ok
status set = raid1 A- Idle
table set live = 0 65536 raid raid1 1 0 2 @s0 @l0 - -
scribble @set = ok
suspend set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 @s1 @l1 = ok
resume set = ok
await set = idle
status set = raid1 AA Idle

# a leg that is new in its place
remove set = ok
clear @s1 = ok
create set ASHLAR-set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 @s1 @l1 = EINVAL
load set 0 65536 raid raid1 3 0 rebuild 1 2 @s0 @l0 @s1 @l1 = ok
resume set = ok
table set live = 0 65536 raid raid1 3 0 rebuild 1 2 @s0 @l0 @s1 @l1
await set = idle
status set = raid1 AA Idle
table set live = 0 65536 raid raid1 3 0 rebuild 1 2 @s0 @l0 @s1 @l1

# a leg that fails beside I/O, is there again, and is tried again
load l1 0 65536 error = ok
resume l1 = ok
scribble @set = ok
await set = idle
status set = raid1 AD Idle
load l1 0 65536 linear @/vdb 4096 = ok
resume l1 = ok
suspend set = ok
resume set = ok
await set = idle
status set = raid1 AA Idle

# what one leg missed, it does not know when it is alone
await set = idle
remove set = ok
create set ASHLAR-set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 - - = ok
resume set = ok
scribble @set = ok
remove set = ok
create set ASHLAR-set = ok
load set 0 65536 raid raid1 1 0 2 - - @s1 @l1 = ok
resume set = ok
await set = idle
status set = raid1 -A Idle
remove set = ok

# new legs are not taken with others missing
clear @s0 = ok
clear @s1 = ok
create set ASHLAR-set = ok
load set 0 65536 raid raid1 1 0 2 @s0 @l0 - - = EINVAL
resume set = ok
status set = (nothing)
remove set = ok
create set ASHLAR-set = ok
load set 0 65536 raid raid1 1 0 2 - - - - = EINVAL

# stripes with a parity
clear @s0 = ok
clear @s1 = ok
load set 0 131064 raid raid5_ls 1 128 3 @s0 @l0 @s1 @l1 @s2 @l2 = ok
load set 0 131073 raid raid5_ls 1 128 3 @s0 @l0 @s1 @l1 @s2 @l2 = EINVAL
load set 0 262144 raid raid5_ls 1 128 3 @s0 @l0 @s1 @l1 @s2 @l2 = EINVAL
load set 0 131072 raid raid5_ls 1 128 3 @s0 @l0 @s1 @l1 @s2 @l2 = ok
resume set = ok
table set live = 0 131072 raid raid5_ls 1 128 3 @s0 @l0 @s1 @l1 @s2 @l2
scrub set check = EBUSY
scribble @set = ok
await set = idle
status set = raid5 AAA Idle
scrub set repair = ok
await set = idle
discard @set = EOPNOTSUPP
load set 0 131072 raid raid5_ls 1 128 3 @s1 @l1 @s0 @l0 @s2 @l2 = EINVAL
load set 0 131072 raid raid5_ls 1 128 3 @s0 @l0 - - - - = EINVAL
load l2 0 65536 error = ok
resume l2 = ok
scribble @set = ok
await set = idle
status set = raid5 AAD Idle
remove set = ok
load l2 0 65536 linear @/vda 133120 = ok
resume l2 = ok
create set ASHLAR-set = ok
load set 0 131072 raid raid5_ls 1 128 3 @s0 @l0 @s1 @l1 @s2 @l2 = ok
resume set = ok
await set = idle
status set = raid5 AAA Idle
remove set = ok

# a parity more, and pairs
clear @s0 = ok
clear @s1 = ok
clear @s2 = ok
create set ASHLAR-set = ok
load set 0 131072 raid raid6_zr 1 128 4 @s0 @l0 @s1 @l1 @s2 @l2 @s3 @l3 = ok
resume set = ok
suspend set = ok
load set 0 131072 raid raid6_zr 1 128 4 @s0 @l0 @s1 @l1 - - @s3 @l3 = ok
resume set = ok
await set = idle
status set = raid6 AA-A Idle
suspend set = ok
load set 0 131072 raid raid6_zr 1 128 4 @s0 @l0 @s1 @l1 @s2 @l2 @s3 @l3 = ok
resume set = ok
await set = idle
status set = raid6 AAAA Idle
suspend set = ok
load set 0 131072 raid raid6_zr 1 128 4 @s0 @l0 - - - - @s3 @l3 = ok
resume set = ok
status set = raid6 A--A Idle
remove set = ok
clear @s0 = ok
clear @s1 = ok
clear @s2 = ok
clear @s3 = ok
create set ASHLAR-set = ok
load set 0 131072 raid raid10 1 128 4 @s0 @l0 @s1 @l1 @s2 @l2 @s3 @l3 = ok
resume set = ok
table set live = 0 131072 raid raid10 1 128 4 @s0 @l0 @s1 @l1 @s2 @l2 @s3 @l3
await set = idle
status set = raid10 AAAA Idle
suspend set = ok
load set 0 131072 raid raid10 1 128 4 @s0 @l0 - - - - @s3 @l3 = ok
resume set = ok
status set = raid10 A--A Idle
suspend set = ok
load set 0 131072 raid raid10 1 128 4 - - - - @s2 @l2 @s3 @l3 = EINVAL
resume set = ok
remove set = ok

# nothing is left for others to find
clear @s0 = ok
clear @l0 = ok
clear @s1 = ok
clear @l1 = ok
clear @s2 = ok
clear @l2 = ok
clear @s3 = ok
clear @l3 = ok
remove s0 = ok
remove l0 = ok
remove s1 = ok
remove l1 = ok
remove s2 = ok
remove l2 = ok
remove s3 = ok
remove l3 = ok
open-exclusive @/vda = ok
close @/vda = ok
