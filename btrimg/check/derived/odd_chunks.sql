-- Chunks that cannot be so, alone or beside others and their block groups, as far as these can be read.
select
    chunks.*,
    sectorsize,
    lag(chunks.logical) over chunks as before,
    lag(chunks.logical + chunks.length) over chunks as before_end,
    coalesce(chunks.logical < before_end, false) as overlapping,
    case
        when chunks.flags & ~8191 > 0 then 'there are bits that are not known'
        when chunks.profile = '' then 'there are several profiles'
        when chunks.flags & 4103 = 0 then 'it does not say what the chunk holds'
        when chunks.flags & 2 > 0 and chunks.flags & 5 > 0 then 'a system chunk holds nothing else'
        when chunks.flags & 5 = 5 and incompat_flags & 4 = 0 then 'data and metadata are not mixed on this filesystem'
    end as type_fault,
    not case chunks.profile
        when 'raid10' then num_stripes >= 2 and num_stripes % 2 = 0 and sub_stripes = 2
        when 'raid5' then num_stripes >= 2
        when 'raid6' then num_stripes >= 3
        when 'raid1' then num_stripes = 2
        when 'dup' then num_stripes = 2
        when 'raid1c3' then num_stripes = 3
        when 'raid1c4' then num_stripes = 4
        when 'single' then num_stripes = 1
        else num_stripes >= 1
    end as wrong_stripes,
    stripe_len <> 65536
        or chunks.length = 0
        or chunks.length % sectorsize > 0
        or chunks.length >= 4294967295 << 16 as wrong_length,
    groups.logical is null
        and chunks.flags & 4096 = 0
        and not exists (from unread_trees where tree in (1, 2, 11)) as without_group,
    groups.length as group_length,
    groups.flags as group_flags,
    coalesce(groups.length <> chunks.length or groups.flags <> chunks.flags, false) as unlike_group
from chunks
cross join superblock
left join block_groups as groups on groups.logical = chunks.logical
window chunks as (order by chunks.logical)
qualify overlapping
    or type_fault is not null
    or wrong_stripes
    or wrong_length
    or without_group
    or unlike_group
    or sector_size <> sectorsize
    or owner <> 2
    or chunks.logical % 65536 > 0
    or chunks.length % 65536 > 0
