# Completions of pvusb-agent for bash. The program says what fits, one candidate a line, with what it is after
# a tab; of files it says only that they fit.

_pvusb_agent() {
    # bash cuts words at characters such as `:` and `=`, the program does not. What stands without a blank
    # between is one word.
    local line=${COMP_LINE:0:COMP_POINT} words=() word bare i
    for ((i = 0; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        bare=${line#"${line%%[![:space:]]*}"}
        if ((i > 0)) && [[ $bare == "$line" ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        line=${bare#"$word"}
    done
    bare=${line#"${line%%[![:space:]]*}"}
    if ((i > 0)) && [[ -n $bare && $bare == "$line" ]]; then
        words[${#words[@]} - 1]+=$bare
    else
        words+=("$bare")
    fi

    # The current word, without a quote that is still open.
    local last=$((${#words[@]} - 1))
    words[last]=${words[last]#[\"\']}
    # What bash puts the answer after: it wants only the rest.
    local before=${words[last]%"$2"} value
    COMPREPLY=()
    while IFS=$'\t' read -r value _; do
        case $value in
            :files) compopt -o default 2>/dev/null ;;
            :directories) compopt -o dirnames 2>/dev/null ;;
            "$before"*) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(COMPLETE=bash command pvusb-agent -- "${words[@]}" 2>/dev/null)
}

complete -F _pvusb_agent pvusb-agent
