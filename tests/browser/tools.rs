//! The browser, tried before it is trusted.

use crate::support::Browser;

#[tokio::test]
async fn a_browser_shows_a_page() {
    let browser = Browser::start().await;
    browser.page.goto("data:text/html,<title>Here</title>").await.unwrap();
    assert_eq!(browser.page.title().await.unwrap(), "Here");
    browser.close().await;
}
