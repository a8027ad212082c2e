//! Access to a setting in a table by its name, such as `drain` or `client.idle_timeout`.

use toml::{Table, Value};

/// Returns the value of a setting, if it has one.
pub(super) fn get<'a>(table: &'a Table, name: &str) -> Option<&'a Value> {
    match name.split_once('.') {
        Some((outer, inner)) => table.get(outer)?.get(inner),
        None => table.get(name),
    }
}

/// Sets the value of a setting. A value in the place of the setting's table is replaced by a table.
pub(super) fn insert(table: &mut Table, name: &str, value: Value) {
    let Some((outer, inner)) = name.split_once('.') else {
        table.insert(name.to_owned(), value);
        return;
    };
    match table.get_mut(outer) {
        Some(Value::Table(table)) => drop(table.insert(inner.to_owned(), value)),
        _ => drop(table.insert(outer.to_owned(), Table::from_iter([(inner.to_owned(), value)]).into())),
    }
}

/// Removes a setting, if it has a value.
pub(super) fn remove(table: &mut Table, name: &str) {
    match name.split_once('.') {
        None => drop(table.remove(name)),
        Some((outer, inner)) => {
            if let Some(Value::Table(table)) = table.get_mut(outer) {
                table.remove(inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_found_and_removed_by_name() {
        let mut table: Table = "drain = 1\ncontrol = 5\n".parse().unwrap();
        for name in ["drain", "client.idle_timeout", "client.proxies", "control.listen"] {
            insert(&mut table, name, Value::Integer(7));
            assert_eq!(get(&table, name), Some(&Value::Integer(7)), "{name}");
        }
        remove(&mut table, "client.idle_timeout");
        remove(&mut table, "no.such");
        assert_eq!((get(&table, "client.idle_timeout"), get(&table, "no.such")), (None, None));
        assert_eq!(get(&table, "client.proxies"), Some(&Value::Integer(7)));
    }
}
