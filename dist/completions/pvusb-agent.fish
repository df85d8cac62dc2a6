# Completions of pvusb-agent for fish. The program says what fits, one candidate a line, with what it is after
# a tab; of files it says only that they fit.

function __pvusb_agent_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    # The current word, without a quote that is still open.
    set -l current (commandline --current-token --cut-at-cursor | string replace --regex '^["\']' '')
    set -l answer (COMPLETE=fish command pvusb-agent -- $words "$current" 2>/dev/null)
    if not string match --quiet -- ':*' "$answer"
        string join -- \n $answer
        return
    end
    # The value of `--option=value` alone; what fits is the whole.
    set -l option (string match --regex -- '^--[^=]*=' "$current")
    set -l value (string replace -- "$option" '' "$current")
    if test "$answer" = ':directories'
        string replace --regex -- '^' "$option" (__fish_complete_directories "$value" '')
    else
        string replace --regex -- '^' "$option" (__fish_complete_path "$value")
    end
end

complete --command pvusb-agent --no-files --keep-order --arguments '(__pvusb_agent_complete)'
