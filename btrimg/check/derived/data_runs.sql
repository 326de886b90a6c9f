-- Ranges of allocated data, extents that touch joined.
with following as (
    select
        logical,
        logical + length as ending,
        lag(logical + length) over (order by logical) as before
    from extents
    where kind = 'data'
),
starts as (
    select logical, lead(before) over (order by logical) as ending from following where before is distinct from logical
)
select logical, coalesce(ending, (select max(ending) from following)) as ending from starts
