//! A value per iteration, written as one value or as a list.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        IntoDeserializer, SeqAccess, Visitor,
        value::{BoolDeserializer, F64Deserializer, I64Deserializer, StrDeserializer, U64Deserializer},
    },
};

/// One value for all iterations, or a list with one per iteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule<T> {
    /// The same in every iteration.
    Same(T),
    /// One value per iteration, the first for iteration 1.
    Each(Vec<T>),
}

impl<T> Schedule<T> {
    /// The value of an iteration, from 1. `None` where the list is too short.
    pub fn at(&self, iteration: u32) -> Option<&T> {
        match self {
            Schedule::Same(value) => Some(value),
            Schedule::Each(values) => {
                iteration.checked_sub(1).and_then(|index| values.get(usize::try_from(index).ok()?))
            }
        }
    }

    /// All values as written.
    pub fn values(&self) -> &[T] {
        match self {
            Schedule::Same(value) => std::slice::from_ref(value),
            Schedule::Each(values) => values,
        }
    }

    /// Length of the list; `None` for one value.
    pub fn length(&self) -> Option<usize> {
        match self {
            Schedule::Same(_) => None,
            Schedule::Each(values) => Some(values.len()),
        }
    }
}

impl<T> From<T> for Schedule<T> {
    fn from(value: T) -> Self {
        Schedule::Same(value)
    }
}

impl<T: Serialize> Serialize for Schedule<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Schedule::Same(value) => value.serialize(serializer),
            Schedule::Each(values) => values.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Schedule<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScheduleVisitor(PhantomData))
    }
}

struct ScheduleVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ScheduleVisitor<T> {
    type Value = Schedule<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value, or a list with one per iteration")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        let inner: BoolDeserializer<E> = value.into_deserializer();
        T::deserialize(inner).map(Schedule::Same)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let inner: I64Deserializer<E> = value.into_deserializer();
        T::deserialize(inner).map(Schedule::Same)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        let inner: U64Deserializer<E> = value.into_deserializer();
        T::deserialize(inner).map(Schedule::Same)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        let inner: F64Deserializer<E> = value.into_deserializer();
        T::deserialize(inner).map(Schedule::Same)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        let inner: StrDeserializer<'_, E> = value.into_deserializer();
        T::deserialize(inner).map(Schedule::Same)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element()? {
            values.push(value);
        }
        Ok(Schedule::Each(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn one_value_serves_every_iteration(value: u32, iteration in 1u32..50) {
            let schedule = Schedule::Same(value);
            prop_assert_eq!(schedule.at(iteration), Some(&value));
        }

        #[test]
        fn a_list_serves_as_many_iterations_as_it_has(values in proptest::collection::vec(any::<u32>(), 0..8)) {
            let schedule = Schedule::Each(values.clone());
            let served: Vec<u32> = (1..).map_while(|t| schedule.at(t).copied()).collect();
            prop_assert_eq!(&served, &values);
            prop_assert_eq!(schedule.at(0), None);
            let text = serde_json::to_string(&schedule).unwrap();
            prop_assert_eq!(serde_json::from_str::<Schedule<u32>>(&text).unwrap(), schedule);
        }
    }

    #[test]
    fn an_integer_is_a_float_too() {
        assert_eq!(serde_json::from_str::<Schedule<f64>>("1").unwrap(), Schedule::Same(1.0));
        assert_eq!(serde_json::from_str::<Schedule<f64>>("[0, 0.5]").unwrap(), Schedule::Each(vec![0.0, 0.5]));
        assert!(serde_json::from_str::<Schedule<u32>>("\"x\"").is_err());
    }
}
