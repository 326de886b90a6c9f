-- Ranges of data that have checksums, those that touch or overlap joined.
with reached as (
    select
        logical,
        logical + length as ending,
        max(logical + length) over (order by logical rows between unbounded preceding and 1 preceding) as before
    from csums
),
numbered as (
    select logical, ending, count(*) filter (before is null or before < logical) over (order by logical) as run from reached
)
select min(logical) as logical, max(ending) as ending from numbered group by run
