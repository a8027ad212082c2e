# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gripd_global_optspecs
    string join \n route= config= listen= port= control= shards= log= h/help V/version
end

function __fish_gripd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gripd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gripd_using_subcommand
    set -l cmd (__fish_gripd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gripd -n "__fish_gripd_needs_command" -l route -d 'A route, written as a line of a routes file, such as \'* localhost:8000\'; repeatable; replaces all configured routes; if clients connect to a loopback address (--listen), error pages tell them the reason, as with `debug`' -r
complete -c gripd -n "__fish_gripd_needs_command" -l config -d 'The configuration file; by default, the one that the environment variable GRIPD_CONFIG names' -r -F
complete -c gripd -n "__fish_gripd_needs_command" -l listen -d 'The address and the port on which clients connect, or unix:FILE' -r
complete -c gripd -n "__fish_gripd_needs_command" -l port -d 'The port on which clients connect, or ADDR:PORT (an option of Pushpin; like --listen)' -r
complete -c gripd -n "__fish_gripd_needs_command" -l control -d 'The address and the port on which publishers connect' -r
complete -c gripd -n "__fish_gripd_needs_command" -l shards -d 'The number of threads that hold connections, from 1 to 1024; by default, one per core' -r
complete -c gripd -n "__fish_gripd_needs_command" -l log -l loglevel -d 'The level of the log: error, warn, info, debug, trace or off; or Pushpin\'s 0 to 4' -r
complete -c gripd -n "__fish_gripd_needs_command" -s h -l help -d 'Print help'
complete -c gripd -n "__fish_gripd_needs_command" -s V -l version -d 'Print version'
complete -c gripd -n "__fish_gripd_needs_command" -f -a "demo" -d 'Run the demo, a chat that is served to this machine only'
complete -c gripd -n "__fish_gripd_needs_command" -f -a "check" -d 'Read the configuration, report all errors in it, try what it names, and sum up what would run'
complete -c gripd -n "__fish_gripd_needs_command" -f -a "config" -d 'Print a configuration file with all settings, their defaults and their descriptions'
complete -c gripd -n "__fish_gripd_needs_command" -f -a "publish" -d 'Publish an item to a channel, and print how many connections got it'
complete -c gripd -n "__fish_gripd_needs_command" -f -a "close" -d 'Close the connections of a channel, and print how many were closed'
complete -c gripd -n "__fish_gripd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gripd -n "__fish_gripd_using_subcommand demo" -l config -d 'The configuration file; by default, the one that the environment variable GRIPD_CONFIG names' -r -F
complete -c gripd -n "__fish_gripd_using_subcommand demo" -l listen -d 'The address and the port on which clients connect, or unix:FILE' -r
complete -c gripd -n "__fish_gripd_using_subcommand demo" -l port -d 'The port on which clients connect, or ADDR:PORT (an option of Pushpin; like --listen)' -r
complete -c gripd -n "__fish_gripd_using_subcommand demo" -l control -d 'The address and the port on which publishers connect' -r
complete -c gripd -n "__fish_gripd_using_subcommand demo" -l shards -d 'The number of threads that hold connections, from 1 to 1024; by default, one per core' -r
complete -c gripd -n "__fish_gripd_using_subcommand demo" -l log -l loglevel -d 'The level of the log: error, warn, info, debug, trace or off; or Pushpin\'s 0 to 4' -r
complete -c gripd -n "__fish_gripd_using_subcommand demo" -s h -l help -d 'Print help'
complete -c gripd -n "__fish_gripd_using_subcommand check" -l route -d 'A route, written as a line of a routes file, such as \'* localhost:8000\'; repeatable; replaces all configured routes; if clients connect to a loopback address (--listen), error pages tell them the reason, as with `debug`' -r
complete -c gripd -n "__fish_gripd_using_subcommand check" -l config -d 'The configuration file; by default, the one that the environment variable GRIPD_CONFIG names' -r -F
complete -c gripd -n "__fish_gripd_using_subcommand check" -l listen -d 'The address and the port on which clients connect, or unix:FILE' -r
complete -c gripd -n "__fish_gripd_using_subcommand check" -l port -d 'The port on which clients connect, or ADDR:PORT (an option of Pushpin; like --listen)' -r
complete -c gripd -n "__fish_gripd_using_subcommand check" -l control -d 'The address and the port on which publishers connect' -r
complete -c gripd -n "__fish_gripd_using_subcommand check" -l shards -d 'The number of threads that hold connections, from 1 to 1024; by default, one per core' -r
complete -c gripd -n "__fish_gripd_using_subcommand check" -l log -l loglevel -d 'The level of the log: error, warn, info, debug, trace or off; or Pushpin\'s 0 to 4' -r
complete -c gripd -n "__fish_gripd_using_subcommand check" -s h -l help -d 'Print help'
complete -c gripd -n "__fish_gripd_using_subcommand config" -l defaults -d 'Print the file with the defaults'
complete -c gripd -n "__fish_gripd_using_subcommand config" -s h -l help -d 'Print help'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l id -d 'The item\'s id; it is also the id of the server-sent event' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l prev-id -d 'The id of the item before this one in the channel' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l sender -d 'The sender of the item; sets its meta \'sender\'' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -s M -l meta -d 'Meta of the item, for filters; repeatable' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l code -d 'The status code of the response to long-polls' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -s H -l header -d 'A header of the response to long-polls; repeatable' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l event -d 'The type of the server-sent event' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l retry -d 'The time after which a browser that has lost the event stream connects again, such as 5s' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l with -d 'Only the connections that also hold this channel; repeatable: they hold all of them' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l except -d 'Only the connections that do not hold this channel; repeatable: they hold none of them' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l spec -d 'The control API of gripd: http://HOST:PORT or unix:FILE. Append ?iss=NAME&key=KEY to authenticate with a JWT, as GRIP libraries do, or ?key=KEY to authenticate with the key itself' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -s u -l user -d 'A user name and a password for the control API' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -s B -l bearer -d 'A bearer token for the control API' -r
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l sse -d 'Publish a server-sent event only: the content is its data, and only event streams (EventSource) get it. Without this option, event streams get the content as an event as well, unless it is written as one (\'data: ...\')'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l hint -d 'Make the connections of the channel ask their origin again'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l close -d 'Close the channel\'s connections, after the content if there is any'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l patch -d 'Treat the content as a JSON patch of the body that is held for long-polls'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l no-seq -d 'Deliver the item at once, even if an item before it is missing'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -l no-eol -d 'Add no newline to the content'
complete -c gripd -n "__fish_gripd_using_subcommand publish" -s h -l help -d 'Print help'
complete -c gripd -n "__fish_gripd_using_subcommand close" -l deny-for -d 'The time for which nobody may hold the channel after the close, such as 60, 90s, 5m or 1h. With --with or --except, this applies only to the connections that they select' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -l code -d 'The close code that WebSockets get, such as 4001' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -l reason -d 'The reason that WebSockets get' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -l with -d 'Only the connections that also hold this channel; repeatable: they hold all of them' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -l except -d 'Only the connections that do not hold this channel; repeatable: they hold none of them' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -l spec -d 'The control API of gripd: http://HOST:PORT or unix:FILE. Append ?iss=NAME&key=KEY to authenticate with a JWT, as GRIP libraries do, or ?key=KEY to authenticate with the key itself' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -s u -l user -d 'A user name and a password for the control API' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -s B -l bearer -d 'A bearer token for the control API' -r
complete -c gripd -n "__fish_gripd_using_subcommand close" -s h -l help -d 'Print help'
complete -c gripd -n "__fish_gripd_using_subcommand help; and not __fish_seen_subcommand_from demo check config publish close help" -f -a "demo" -d 'Run the demo, a chat that is served to this machine only'
complete -c gripd -n "__fish_gripd_using_subcommand help; and not __fish_seen_subcommand_from demo check config publish close help" -f -a "check" -d 'Read the configuration, report all errors in it, try what it names, and sum up what would run'
complete -c gripd -n "__fish_gripd_using_subcommand help; and not __fish_seen_subcommand_from demo check config publish close help" -f -a "config" -d 'Print a configuration file with all settings, their defaults and their descriptions'
complete -c gripd -n "__fish_gripd_using_subcommand help; and not __fish_seen_subcommand_from demo check config publish close help" -f -a "publish" -d 'Publish an item to a channel, and print how many connections got it'
complete -c gripd -n "__fish_gripd_using_subcommand help; and not __fish_seen_subcommand_from demo check config publish close help" -f -a "close" -d 'Close the connections of a channel, and print how many were closed'
complete -c gripd -n "__fish_gripd_using_subcommand help; and not __fish_seen_subcommand_from demo check config publish close help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
