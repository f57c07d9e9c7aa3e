//! Fields that this version reads and checks but does nothing with yet.
//!
//! Given an object, [`node_pool_notices`] and [`node_class_notices`] give back one notice for each
//! such field that is set, and [`fields_condition`] makes a condition of them. The object works
//! without them: `FieldsActedOn` is no part of `Ready`. The two tables shrink as features arrive.

use super::conditions::{ConditionReason, ConditionType, ConditionUpdate};
use super::disruption::ConsolidationPolicy;

use super::settings::unknown_settings;
use super::settings_table::{self, Support};
use super::{EC2NodeClass, NodePool};

/// A field that is set and has no effect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldNotice {
    /// Path of the field, or the annotation's key.
    pub field: String,
    /// What happens instead, for users.
    pub note: String,
}

struct Row<K: 'static> {
    field: &'static str,
    note: &'static str,
    is_set: fn(&K) -> bool,
}

const NODE_POOL: &[Row<NodePool>] = &[
    Row {
        field: "spec.replicas",
        note: "static pools are not kept yet; nodes are made for pending pods only",
        is_set: |pool| pool.spec.replicas.is_some(),
    },
    Row {
        field: "spec.disruption.consolidationPolicy",
        note: "only empty nodes are removed yet, as with WhenEmpty",
        is_set: |pool| pool.spec.disruption.consolidation_policy != ConsolidationPolicy::WhenEmpty,
    },
    Row {
        field: "spec.template.spec.expireAfter",
        note: "nodes are not removed by age yet, as with Never",
        is_set: |pool| pool.spec.template.spec.expire_after.as_str() != "Never",
    },
];

const NODE_CLASS: &[Row<EC2NodeClass>] = &[Row {
    field: "spec.capacityReservationSelectorTerms",
    note: "interruptible reservations are listed in the status; no machine is placed in one yet",
    is_set: |class| {
        let status = class.status.as_ref();
        let mut selected = status
            .into_iter()
            .flat_map(|status| &status.capacity_reservations);
        selected.any(|found| found.interruptible == Some(true))
    },
}];

/// The fields and settings of a NodePool that are set and have no effect yet.
pub fn node_pool_notices(pool: &NodePool) -> Vec<FieldNotice> {
    let mut notices = set_fields(NODE_POOL, pool);
    let annotations = pool.metadata.annotations.clone().unwrap_or_default();
    for row in settings_table::TABLE {
        if row.support == Support::NotYet && annotations.contains_key(row.key.annotation()) {
            notices.push(notice(
                row.key.annotation(),
                "the setting has no effect yet",
            ));
        }
    }
    for key in unknown_settings(&annotations) {
        notices.push(notice(
            key,
            "there is no such setting; compare the list of settings",
        ));
    }
    notices
}

/// The fields of an EC2NodeClass that are set and have no effect yet.
pub fn node_class_notices(class: &EC2NodeClass) -> Vec<FieldNotice> {
    set_fields(NODE_CLASS, class)
}

/// The condition `FieldsActedOn`: True without notices, else False with a message that names them.
pub fn fields_condition(notices: &[FieldNotice]) -> ConditionUpdate {
    if notices.is_empty() {
        return ConditionUpdate::holds(ConditionType::FieldsActedOn);
    }
    let lines: Vec<String> = notices
        .iter()
        .map(|notice| format!("{}: {}", notice.field, notice.note))
        .collect();
    let message = format!(
        "This version does nothing with some of what is set. {}",
        lines.join(". ")
    );
    ConditionUpdate::fails(
        ConditionType::FieldsActedOn,
        &ConditionReason::FieldsNotActedOn,
        message,
    )
}

fn set_fields<K>(table: &[Row<K>], object: &K) -> Vec<FieldNotice> {
    table
        .iter()
        .filter(|row| (row.is_set)(object))
        .map(|row| notice(row.field, row.note))
        .collect()
}

fn notice(field: &str, note: &str) -> FieldNotice {
    FieldNotice {
        field: field.to_owned(),
        note: note.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::ConditionStatus;
    use crate::api::{Conditioned, NodePoolSpec, labels};

    fn pool(spec: &str) -> NodePool {
        let spec: NodePoolSpec = serde_saphyr::from_str(spec).unwrap();
        NodePool::new("general", spec)
    }

    const TEMPLATE: &str = "template: {spec: {requirements: [], expireAfter: Never, nodeClassRef: {group: \
                            tonnage.dev, kind: EC2NodeClass, name: default}}}";

    #[test]
    fn a_pool_that_asks_for_nothing_more_has_no_notices() {
        let pool = pool(&format!(
            "{{{TEMPLATE}, disruption: {{consolidationPolicy: WhenEmpty}}}}"
        ));
        assert_eq!(node_pool_notices(&pool), []);
    }

    #[test]
    fn what_has_no_effect_is_named_and_ready_is_left_alone() {
        let mut pool = pool(&format!(
            "{{{TEMPLATE}, replicas: 3, disruption: {{consolidationPolicy: Balanced}}}}"
        ));
        pool.metadata
            .annotations
            .get_or_insert_default()
            .insert(labels::PAUSED.into(), "false".into());
        pool.metadata
            .annotations
            .get_or_insert_default()
            .insert("tonnage.dev/budget-time-zone".into(), "UTC".into());
        let notices = node_pool_notices(&pool);
        let fields: Vec<&str> = notices.iter().map(|notice| notice.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.replicas",
                "spec.disruption.consolidationPolicy",
                "tonnage.dev/budget-time-zone"
            ]
        );
        let now = jiff::Timestamp::UNIX_EPOCH;
        for type_ in NodePool::DEPENDENTS {
            pool.set_condition(ConditionUpdate::holds(*type_), now);
        }
        pool.set_condition(fields_condition(&notices), now);
        let condition = pool.condition(ConditionType::FieldsActedOn).unwrap();
        assert_eq!(condition.status, ConditionStatus::False);
        assert!(
            condition.message.contains("spec.replicas"),
            "{}",
            condition.message
        );
        assert!(pool.is_true(ConditionType::Ready));
    }
}
