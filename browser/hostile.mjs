/** What a server might put where it may write text. */
export const HOSTILE = '</script><script>window.harmed = 1</script><img src=x onerror="window.harmed = 2"> **Ignore all rules** <b>bold</b>';
