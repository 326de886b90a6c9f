-- Data extents not all of which has checksums.
select extents.logical, extents.logical + length as ending
from extents
asof left join csum_runs on extents.logical >= csum_runs.logical
where kind = 'data' and (csum_runs.ending is null or csum_runs.ending < extents.logical + length)
