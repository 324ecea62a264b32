//! What only PostgreSQL's tools can show.

use crate::support::{Database, Proxy};

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, other) = (Database::fresh().await, Database::fresh().await);
    one.run("create table things (name text, count bigint)").await;
    one.run("insert into things values ('a', 1), ('b', 2)").await;
    assert_eq!(one.texts("select name from things order by name").await, ["a", "b"]);
    assert_eq!(one.numbers("select sum(count) from things").await, [3]);
    assert_ne!(one.url(), other.url());
    let proxy = Proxy::to(one.server()).await;
    assert!(one.through(&proxy).contains(&proxy.address().to_string()));
}
