CREATE TABLE usage_event (
    tenant_id String,
    user_id String,
    label String,
    tokens UInt64,
    at DateTime64(3) DEFAULT now64(3)
) ENGINE = MergeTree ORDER BY (tenant_id, user_id, at)
